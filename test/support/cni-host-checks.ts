// What tests of the CNI server look for on a host.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { hostVethName } from '../../cni-plugin/names.ts';
import type { CniHost, Outcome, Verb } from './cni-host.ts';

export const pods = (number: number): string[] => Array.from({ length: number }, (_, n) => `pod${n}`);

/** The same verb on each of them, for {@link CniHost.run}. */
export const onEach = (command: string, ids: readonly string[]): Verb[] => ids.map((id) => ({ command, id }));

/** The host's end of a pod's pair. */
export const vethOf = (containerId: string): string =>
  hostVethName({ network: 'cbr0', containerId, ifname: 'eth0' }, 0);

/** What a client was killed over before it had kept its deletion; the agent removes it after ten minutes. */
const UNFINISHED = /^\.spool\/\.\d+\.\d+-\d+$/;

/** Nothing is left of any attachment, on disk or in the kernel. */
export async function isClean(t: Test, host: CniHost, when: string): Promise<void> {
  const links = (await host.links()).filter((name) => name !== 'cni0' && name !== 'lo');
  t.strictSame(links, [], `${when}: interfaces`);
  t.strictSame(
    host.files().filter((file) => !UNFINISHED.test(file)),
    [],
    `${when}: files`,
  );
  t.strictSame(await portElements(host), [], `${when}: host ports`);
}

interface NftSet {
  readonly name: string;
  readonly elem?: readonly unknown[];
}

/** What pods have in the sets and maps of host ports. Masqueraded subnets and bridges are no pod's alone, and stay. */
async function portElements(host: CniHost): Promise<string[]> {
  const listing = await host.machine.must('nft', ['-j', 'list', 'ruleset']);
  const { nftables } = JSON.parse(listing) as { nftables: { set?: NftSet; map?: NftSet }[] };
  return nftables.flatMap(({ set, map }) => {
    const { name = '', elem = [] } = set ?? map ?? {};
    return /^cni-(host|hairpin-v)/.test(name) ? elem.map((each) => `${name}: ${JSON.stringify(each)}`) : [];
  });
}

export const failures = (outcomes: readonly Outcome[]): unknown[] =>
  outcomes.filter(({ status }) => status !== 0).map(({ output }) => output);

export const median = (outcomes: readonly Outcome[]): string =>
  (outcomes.map(({ ms }) => ms).sort((a, b) => a - b)[Math.floor(outcomes.length / 2)] ?? 0).toFixed(2);

/** Waits for something to become true. @throws Error with what is known when it doesn't within 20 s */
export async function until(
  condition: () => boolean | Promise<boolean>,
  known: () => string = () => '',
): Promise<void> {
  for (let waited = 0; waited < 20_000; waited += 20) {
    if (await condition()) return;
    await sleep(20);
  }
  throw new Error(`it doesn't come true: ${condition}\n${known()}`);
}
