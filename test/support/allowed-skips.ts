// The skips that are allowed: test/allowed-skips.json maps "file > test" to words that the reason must contain. A `*`
// in the key stands for anything. A skip that is not listed, or that has another reason, is a failure.

import type { Outcome } from './tap-results.ts';

export type AllowedSkips = Readonly<Record<string, string>>;

const pattern = (key: string): RegExp => new RegExp(`^${key.split('*').map(RegExp.escape).join('.*')}$`);

/** The outcome itself, or a failure in place of a skip that is not allowed. */
export function judgeSkip(allowed: AllowedSkips, file: string, outcome: Outcome): Outcome {
  if (outcome.state !== 'skipped') return outcome;
  const { name, reason } = outcome;
  const full = name === '' ? file : `${file} > ${name}`;
  const listed = Object.entries(allowed).some(
    ([key, words]) => pattern(key).test(full) && reason.toLowerCase().includes(words.toLowerCase()),
  );
  if (listed) return outcome;
  return {
    state: 'failed',
    name,
    details: `skipped, which test/allowed-skips.json does not allow: ${reason || 'no reason given'}`,
  };
}
