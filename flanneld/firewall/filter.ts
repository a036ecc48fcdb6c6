// A packet filter as a value: chains with their rules, whichever program made them, and what becomes of traffic in them.
// Pure.

import { askAll, type Condition, type Traffic } from './condition.ts';

/** What a rule does with what its conditions are true of. `other`: something that is not understood. */
export type Verdict =
  | { readonly type: 'accept' | 'drop' | 'return' | 'none' | 'other' }
  | { readonly type: 'jump' | 'goto'; readonly chain: string };

/** What is understood of a rule. */
export interface Sense {
  readonly conditions: readonly Condition[];
  readonly verdict: Verdict;
}

export interface FilterRule {
  /** nft's number of it; in a legacy table its place in the chain, from 1. */
  readonly handle: number;
  readonly text: string;
  readonly comment?: string | undefined;
  /** Several where one rule decides by a map. */
  readonly senses: readonly Sense[];
}

export interface FilterChain {
  readonly name: string;
  /** nft's number of it; 0 in a legacy table. */
  readonly handle: number;
  /** Of a chain that packets enter from outside. */
  readonly policy?: 'accept' | 'drop' | undefined;
  readonly rules: readonly FilterRule[];
}

/** The chains of one table, which need not be read before they are asked for. */
export interface Chains {
  get(name: string): FilterChain | undefined;
}

/** Where traffic ends: by a rule, or by the policy of the chain it entered by. */
export interface Fate {
  readonly verdict: 'accept' | 'drop';
  readonly chain: FilterChain;
  readonly rule?: FilterRule | undefined;
}

/**
 * How a rule counts that may accept the traffic or not: `hopeful` takes it that it does, `wary` that it does not. A rule
 * that may drop it, or drops some of it only, never counts.
 */
export type Mood = 'hopeful' | 'wary';

/** No table is that deep (the kernel allows 16 jumps). */
const DEEPEST = 16;

/** What becomes of traffic that enters by the chain. */
export function fateOf(chains: Chains, entry: FilterChain, traffic: Traffic, mood: Mood): Fate {
  const walk: Walk = { chains, traffic, mood, known: new Map() };
  return walkChain(walk, entry, 0) ?? { verdict: entry.policy ?? 'accept', chain: entry };
}

interface Walk {
  readonly chains: Chains;
  readonly traffic: Traffic;
  readonly mood: Mood;
  /** What chains that were walked already lead to: many ways may lead to one. */
  readonly known: Map<FilterChain, Fate | undefined>;
}

/** Undefined: none of the rules decides. */
function walkChain(walk: Walk, chain: FilterChain, depth: number): Fate | undefined {
  for (const rule of chain.rules) {
    for (const { conditions, verdict } of rule.senses) {
      const answer = askAll(conditions, walk.traffic);
      if (answer !== 'yes' && answer !== 'unknown') continue;
      const sure = answer === 'yes';
      if (sure && verdict.type === 'return') return undefined;
      const fate = judge(walk, chain, rule, verdict, depth);
      if (fate !== undefined && (sure || (fate.verdict === 'accept' && walk.mood === 'hopeful'))) return fate;
      if (sure && verdict.type === 'goto') return undefined;
    }
  }
  return undefined;
}

function judge(walk: Walk, chain: FilterChain, rule: FilterRule, verdict: Verdict, depth: number): Fate | undefined {
  const hope: Fate | undefined = walk.mood === 'hopeful' ? { verdict: 'accept', chain, rule } : undefined;
  switch (verdict.type) {
    case 'accept':
    case 'drop':
      return { verdict: verdict.type, chain, rule };
    case 'jump':
    case 'goto': {
      const target = walk.chains.get(verdict.chain);
      if (target === undefined || depth >= DEEPEST) return hope;
      if (!walk.known.has(target)) walk.known.set(target, walkChain(walk, target, depth + 1));
      return walk.known.get(target);
    }
    case 'other':
      return hope;
    default:
      return undefined;
  }
}
