// Steady traffic among pods, each to the next, and what was lost of it.

import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import type { Test } from 'tap';
import { endChild } from '../../examples/cluster/machine.ts';
import type { KubeCluster, PodObject } from './cluster.ts';
import type { SteadyReport } from './steady-pod.ts';
import { addressesOf, containerIdOf } from './workload.ts';

const PROGRAM = join(import.meta.dirname, 'steady-pod.ts');

export interface SteadyTraffic {
  /** Ends it, and asserts that nothing was lost. */
  lostNothing(t: Test, what: string): Promise<void>;
}

/** Begins when all of them answer. Ends with the test. */
export async function startTraffic(t: Test, cluster: KubeCluster, pods: readonly PodObject[]): Promise<SteadyTraffic> {
  const talkers = await Promise.all(
    pods.map((pod, at) => startTalker(t, cluster, pod, pods[(at + 1) % pods.length] as PodObject)),
  );
  for (const { tell } of talkers) tell('begin');
  return {
    async lostNothing(t, what) {
      for (const { tell } of talkers) tell('end');
      const reports = await Promise.all(talkers.map(async ({ next }) => JSON.parse(await next()) as SteadyReport));
      await Promise.all(talkers.map(({ end }) => end()));
      const sum = (key: Exclude<keyof SteadyReport, 'failed'>) => reports.reduce((total, each) => total + each[key], 0);
      t.comment(`${what}: ${sum('sent')} packets of flows, ${sum('connections')} new connections`);
      t.ok(sum('sent') > 0 && sum('connections') > 0 && sum('written') > 0, `${what}: there was traffic`);
      t.equal(sum('sent') - sum('answered') - sum('overflowed'), 0, `${what}: packets of flows that were lost`);
      t.equal(sum('written') - sum('echoed'), 0, `${what}: bytes on connections that did not come back`);
      t.equal(sum('repeated'), 0, `${what}: connections whose first packet was lost`);
      t.strictSame(
        reports.flatMap(({ failed }) => failed),
        [],
        `${what}: no connection failed`,
      );
    },
  };
}

async function startTalker(t: Test, cluster: KubeCluster, pod: PodObject, peer: PodObject) {
  const node = cluster.nodeOf(pod);
  const [first = '', ...rest] = await node.within(containerIdOf(pod));
  const child: ChildProcess = node.start(first, [...rest, process.execPath, PROGRAM, ...addressesOf(peer)]);
  const end = async () => void (await endChild(child));
  t.teardown(end);
  let trouble = '';
  child.stderr?.on('data', (chunk) => (trouble += chunk));
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the traffic of ${pod.metadata.name} ended: ${trouble}`);
    return value;
  };
  await next();
  return { next, end, tell: (line: string) => void child.stdin?.write(`${line}\n`) };
}
