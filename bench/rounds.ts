// Contenders that take turns, so that what else the machine does hits all of them alike, and what their rounds have shown.

import { type Figures, figures } from './stats.ts';

/** Of what a round shows by names: a value, or the values of many events. */
export type FiguresOf<R> = { readonly [Name in keyof R]: Figures };

/** Rounds from 1 on, each of every contender. */
export async function takeTurns<
  C extends { readonly name: string },
  R extends { readonly [Name in keyof R]: number | readonly number[] },
>(
  contenders: readonly C[],
  rounds: number,
  round: (contender: C, number: number) => Promise<R>,
): Promise<(FiguresOf<R> & { readonly contender: string })[]> {
  const series = contenders.map((contender) => ({ contender, done: [] as R[] }));
  for (let number = 1; number <= rounds; number++) {
    for (const { contender, done } of series) done.push(await round(contender, number));
  }
  return series.map(({ contender: { name }, done }) => ({ contender: name, ...summed(done) }));
}

function summed<R extends { readonly [Name in keyof R]: number | readonly number[] }>(
  rounds: readonly R[],
): FiguresOf<R> {
  const names = Object.keys(rounds[0] ?? {}) as (keyof R)[];
  const all = names.map((name) => [name, figures(rounds.flatMap((round): number | readonly number[] => round[name]))]);
  return Object.fromEntries(all) as FiguresOf<R>;
}
