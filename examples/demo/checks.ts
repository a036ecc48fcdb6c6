// What must hold of a running cluster: every pod reaches every pod, at full size, and the outside.

import { familyOf } from '../../model/ip.ts';
import { OUTSIDE } from '../cluster/cluster.ts';
import type { Pod } from '../cluster/pod.ts';

/** Bytes of IPv4 or IPv6 header and ICMP header. */
const ICMP_OVERHEAD = { 4: 28, 6: 48 } as const;

export interface Check {
  readonly name: string;
  /** "ok" or the reason, a row for each pod. */
  readonly cells: readonly (readonly string[])[];
}

export const holds = (check: Check): boolean => check.cells.flat().every((cell) => cell === 'ok');

type Prober = (from: Pod, to: string, target: Pod) => Promise<string>;

const ping: Prober = async (from, to) => {
  const { ok, detail } = await from.probe({ kind: 'ping', to });
  return ok ? 'ok' : detail;
};

/** The server answers with its own name and the caller's address: the right pod, and no masquerade in between. */
const tcp: Prober = async (from, to, target) => {
  const { detail } = await from.probe({ kind: 'tcp', to });
  const expected = from.ips.map((ip) => `${target.name} ${ip}`);
  return expected.includes(detail) ? 'ok' : detail;
};

const fullSize: Prober = async (from, to) => {
  const mtu = from.result.interfaces.find(({ name }) => name === 'eth0')?.mtu ?? (await readMtu(from));
  const { ok, detail } = await from.probe({ kind: 'ping', to, size: mtu - ICMP_OVERHEAD[familyOf(to as never)] });
  return ok ? 'ok' : detail;
};

async function readMtu(pod: Pod): Promise<number> {
  return Number(
    await pod.node.must('nsenter', [
      `--net=/run/netns/${pod.name}`,
      'sh',
      '-c',
      "ip -o link show eth0 | sed 's/.* mtu \\([0-9]*\\).*/\\1/'",
    ]),
  );
}

/** Each pod against each, for each family the pods have. */
export async function podMatrix(pods: readonly Pod[]): Promise<Check[]> {
  const families = [4, 6].filter((family) => pods.every((pod) => pod.ips.some((ip) => familyOf(ip) === family)));
  const probers: [string, Prober][] = [
    ['ping', ping],
    ['TCP', tcp],
    ['ping with DF at the full MTU', fullSize],
  ];
  const checks: Check[] = [];
  for (const family of families) {
    for (const [name, prober] of probers) {
      const cells = await Promise.all(
        pods.map((from) =>
          Promise.all(pods.map((to) => prober(from, to.ips.find((ip) => familyOf(ip) === family) ?? '', to))),
        ),
      );
      checks.push({ name: `${name}, IPv${family}`, cells });
    }
  }
  return checks;
}

/** Each pod to an address that knows no way back to pods: it answers only what comes from a node's address. */
export async function outsideCheck(pods: readonly Pod[]): Promise<Check> {
  const cells = pods.map((pod) => {
    const families = new Set(pod.ips.map(familyOf));
    return Promise.all([...families].map((family) => ping(pod, OUTSIDE[family], pod)));
  });
  return {
    name: `out of the cluster through masquerade (${OUTSIDE[4]}, ${OUTSIDE[6]})`,
    cells: await Promise.all(cells),
  };
}
