// The conformance suite of test/cni/ against ours, alone and with the agent, and against Debian's plugins, which shows
// that the suite asks for what the reference does.

import t, { type Test } from 'tap';
import { SECTIONS, CATALOGUE } from '../cni/catalogue.ts';
import { PENDING } from '../cni/pending.ts';
import { ROWS } from '../cni/rows.ts';
import { instancesOf, JOBS, type Outcome, runInstances } from '../cni/run.ts';
import { DEBIAN_BIN, OWN_BIN, openTarget, type Target } from '../cni/target.ts';

const soak = process.env.FLANNEL_TEST_TIER === 'soak';

const named = ({ row, version, state, details }: Outcome): string => `${row.id} [${version}]: ${state}: ${details}`;

/** One test for each section of the catalogue, so that a failure says where it is. */
async function hold(t: Test, target: Target, few = false): Promise<void> {
  const outcomes = await runInstances(target, instancesOf(ROWS, few), { pending: PENDING, jobs: JOBS });
  for (const section of SECTIONS) {
    const own = outcomes.filter(({ row }) => row.covers[0] !== undefined && row.covers[0] in CATALOGUE[section]);
    const failed = own.filter(({ state }) => state === 'failed').map(named);
    t.strictSame(failed, [], `${section}: ${own.length} rows and versions`);
    const open = own.filter(({ state }) => state === 'pending' || state === 'known defect');
    for (const line of new Set(open.map(named))) t.comment(line);
  }
}

// A process of Node.js for every verb: thirty times what it takes with the agent, for the same verbs.
t.test('ours, alone', async (t) => hold(t, openTarget(OWN_BIN), !soak));
t.test('ours, with the agent', async (t) => hold(t, openTarget(OWN_BIN, { agent: true })));
// Those don't change.
t.test("Debian's", async (t) => hold(t, openTarget(DEBIAN_BIN), !soak));
