// TAP output of one test file as a flat list of outcomes. A test is a subtest without subtests of its own, or whatever
// a larger subtest (or the file itself) asserts directly.

import { Parser, type Result } from 'tap-parser';

export type Outcome =
  | { readonly state: 'passed'; readonly name: string }
  | { readonly state: 'failed'; readonly name: string; readonly details: string }
  | { readonly state: 'skipped'; readonly name: string; readonly reason: string };

interface Node {
  readonly path: readonly string[];
  readonly failures: string[];
  readonly children: Node[];
  asserts: number;
  /** No test point at all: a test that ended without throwing, which is what a property test does. */
  empty: boolean;
  failed: boolean;
}

const nodeAt = (...path: string[]): Node => ({
  path,
  failures: [],
  children: [],
  asserts: 0,
  empty: true,
  failed: false,
});

const messageOf = (value: unknown): string | undefined =>
  value instanceof Object && 'message' in value ? String(value.message) : undefined;

/** What a person needs of a failed assertion: its words, its place, and the difference. */
function describe(result: Result): string {
  const { at, diff, found, wanted, stack, source, compare, tapCaught, ...facts } = result.diag ?? {};
  const lines = [at ? `${result.name} (${at.fileName}:${at.lineNumber}:${at.columnNumber})` : result.name];
  if (diff) lines.push(String(diff));
  else if (found !== undefined || wanted !== undefined) {
    lines.push(`found:  ${JSON.stringify(found)}`, `wanted: ${JSON.stringify(wanted)}`);
  } else if (stack) lines.push(String(stack));
  for (const [key, value] of Object.entries(facts)) lines.push(`${key}: ${messageOf(value) ?? JSON.stringify(value)}`);
  return lines
    .flatMap((line) => line.trimEnd().split('\n'))
    .slice(0, 40)
    .join('\n');
}

const reasonOf = (directive: true | string): string => (directive === true ? '' : directive);

/** A parser to write TAP into; each test is reported as soon as it has ended. */
export function tapResults(report: (outcome: Outcome) => void): Parser {
  const close = (node: Node, ok: boolean, fallback: string): void => {
    const name = node.path.join(' > ');
    const failures = node.failures.length > 0 ? node.failures : [fallback];
    node.failed = !ok || node.failures.length > 0;
    if (node.failures.length > 0 || (!ok && !node.children.some((child) => child.failed))) {
      report({ state: 'failed', name, details: failures.join('\n\n') });
    } else if (node.asserts > 0 || node.empty) {
      report({ state: 'passed', name });
    }
  };

  const follow = (parser: Parser, node: Node): void => {
    parser.on('child', (child: Parser) => {
      const next = nodeAt(...node.path, child.name);
      node.children.push(next);
      follow(child, next);
    });
    parser.on('assert', (result: Result) => {
      const name = [...node.path, result.name].join(' > ');
      const child = result.closingTestPoint ? node.children.at(-1) : undefined;
      node.empty = false;
      if (result.skip) report({ state: 'skipped', name, reason: reasonOf(result.skip) });
      else if (result.todo) report({ state: 'skipped', name, reason: `not done: ${reasonOf(result.todo)}` });
      else if (child) close(child, result.ok, describe(result));
      else {
        node.asserts++;
        if (!result.ok) node.failures.push(describe(result));
      }
    });
  };

  // The parser gives these words to output without a plan. A file that plans nothing must say why.
  const reportPlan = (reason: string): void => {
    if (reason !== '' && reason !== 'no tests found') report({ state: 'skipped', name: '', reason });
  };

  const file = nodeAt();
  const parser = new Parser((results) => {
    const broken = results.failures.find((failure) => failure.tapError);
    if (results.bailout) close(file, false, `bailed out: ${results.bailout}`);
    else if (results.count === 0) reportPlan(results.plan.skipReason);
    else close(file, results.ok, broken?.tapError ?? 'the file failed');
  });
  follow(parser, file);
  return parser;
}
