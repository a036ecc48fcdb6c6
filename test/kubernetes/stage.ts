// What the tests with a real API server share: nodes with agents, and what they say.

import { renameSync, writeFileSync } from 'node:fs';
import type { Test } from 'tap';
import { agentStatus, type Cluster, type Node, startCluster, until } from '../../examples/cluster/cluster.ts';
import type { Pod } from '../../examples/cluster/pod.ts';
import { missingPrograms, type Program } from './binaries.ts';
import { notBuilt } from '../support/go-program.ts';
import { type ControlPlane, type ControlPlaneOptions, createAgentRole, startControlPlane } from './control-plane.ts';

export const DUAL = { clusterCidr: '10.244.0.0/16,fd00:244::/48', serviceCidr: '10.96.0.0/16,fd00:96::/108' };
export const SINGLE = { clusterCidr: '10.244.0.0/16', serviceCidr: '10.96.0.0/16' };

export interface Stage {
  readonly cluster: Cluster;
  readonly plane: ControlPlane;
  /** Replaces the network configuration that --net-config-path names. */
  configure(config: unknown): void;
  readonly configFlag: string;
}

/**
 * Why these tests are skipped; false when the programs are there. `npm run test:kubernetes` builds them where there is Go.
 * @throws Error where they could have been built
 */
export function lacking(programs: readonly Program[]): string | false {
  const missing = missingPrograms(programs);
  if (missing.length === 0) return false;
  return notBuilt(`Kubernetes' programs are not built: ${missing.join(', ')}`, 'node test/kubernetes/binaries.ts');
}

export async function openStage(t: Test, nodes: number, options: ControlPlaneOptions): Promise<Stage> {
  const cluster = await startCluster({ nodes });
  let plane: ControlPlane | undefined;
  t.teardown(async () => {
    await plane?.down();
    await cluster.down();
  });
  plane = await startControlPlane(cluster, options);
  await createAgentRole(plane);
  const path = `${cluster.logs}/net-conf.json`;
  return {
    cluster,
    plane,
    configFlag: `--net-config-path=${path}`,
    configure(config) {
      writeFileSync(`${path}.new`, JSON.stringify(config));
      renameSync(`${path}.new`, path);
    },
  };
}

/** Why the node isn't ready; undefined when it is, or doesn't answer. */
export const reasonOf = async (node: Node): Promise<string | undefined> => (await agentStatus(node))?.reason;

/** Asserts that each pod pings every address of each, soon; those that don't are named. */
export async function reachEachOther(t: Test, what: string, pods: readonly Pod[], timeoutMs: number): Promise<void> {
  let left: string[] = [];
  const all = async () => {
    left = await unreachable(pods);
    return left.length === 0;
  };
  await until(what, all, timeoutMs).catch(() => undefined);
  t.strictSame(left, [], what);
}

/** What of the pods' addresses can't be pinged by each other. */
export async function unreachable(pods: readonly Pod[]): Promise<string[]> {
  const probes = pods.flatMap((from) =>
    pods.flatMap((to) =>
      to.ips.map(async (ip) => {
        const { ok, detail } = await from.probe({ kind: 'ping', to: ip });
        return ok ? [] : [`${from.name} -> ${ip}: ${detail}`];
      }),
    ),
  );
  return (await Promise.all(probes)).flat();
}
