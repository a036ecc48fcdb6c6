// What a node's former subnet leaves on its bridge: its first address, which the bridge plugin refuses to exchange while it
// can't tell whether anybody uses it. Where no pod does, the agent takes it away.

import type { Kernel } from '../kernel/kernel.ts';
import { addressOf, firstOf, networkOf, plus, type Prefix } from '../model/ip.ts';
import { familiesOf, type PerFamily } from '../model/lease.ts';
import type { Address, State } from '../model/state.ts';
import { printStep, type Step } from '../model/steps.ts';
import type { Log } from './log.ts';
import { podsInSubnet, readHost } from './prepare.ts';

/** What of the subnets is not among those that the node has now. */
export const formerSubnets = (before: PerFamily<Prefix>, now: PerFamily<Prefix>): PerFamily<Prefix> =>
  Object.fromEntries(
    familiesOf(before)
      .map((family) => [family, networkOf(before[family] as Prefix)] as const)
      .filter(([family, subnet]) => subnet !== now[family]),
  );

/** The gateway addresses of the subnets on bridges. */
const gatewaysOn = ({ links, addresses }: State, subnet: PerFamily<Prefix>): Address[] => {
  const gateways = familiesOf(subnet).map((family) => plus(firstOf(networkOf(subnet[family] as Prefix)), 1n));
  const bridges = new Set(links.filter(({ kind }) => kind === 'bridge').map(({ name }) => name));
  return addresses.filter(({ device, address }) => bridges.has(device) && gateways.includes(addressOf(address)));
};

/**
 * Takes away the gateway addresses of subnets that this node has no more. Equivalent to: ip address delete 10.244.2.1/24 dev
 * cni0
 * @returns false, and does nothing, where pods still use one of them
 */
export function removeGateways(kernel: Kernel, log: Log, former: PerFamily<Prefix>): boolean {
  if (familiesOf(former).length === 0) return true;
  const have = readHost(kernel, familiesOf(former));
  if (podsInSubnet(have, former)) return false;
  const steps = gatewaysOn(have, former).map((value): Step => ({ verb: 'delete', item: { type: 'address', value } }));
  if (steps.length === 0) return true;
  log.info({ changes: steps.map(printStep) }, 'the former subnet leaves the bridge');
  for (const { error } of kernel.apply(kernel.host, steps)) throw error;
  return true;
}
