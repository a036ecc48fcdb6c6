// What the cases about diff are written with: states as literals, steps as lines, and a small node.

import type { Test } from 'tap';
import { diff, type Owns } from '../../model/diff.ts';
import { merge, type State } from '../../model/state.ts';
import { printSteps } from '../../model/steps.ts';

/** A state from plain literals. */
export const state = (parts: { readonly [K in keyof State]?: readonly object[] }): State =>
  merge(parts as Partial<State>);
export const ALL: Owns = () => true;

export function plans(
  t: Test,
  title: string,
  have: State,
  want: State,
  lines: readonly string[],
  owns: Owns = ALL,
): void {
  t.strictSame(
    printSteps(diff(have, want, owns))
      .split('\n')
      .slice(0, -1),
    lines,
    title,
  );
}

export const cni0 = { name: 'cni0', kind: 'bridge', up: true };
export const vx = { name: 'flannel.1', kind: 'vxlan', up: true, vxlan: { vni: 1, port: 8472, local: '192.0.2.1' } };
export const VX_LINE = 'ip link add flannel.1 up type vxlan id 1 local 192.0.2.1 dstport 8472';
export const gateway = { device: 'cni0', address: '10.5.1.1/24' };
export const route = { destination: '10.5.2.0/24', via: '10.5.2.0', device: 'flannel.1', onlink: true };
export const neighbour = { device: 'flannel.1', ip: '10.5.2.0', mac: '02:00:00:00:00:02' };
export const fdb = { device: 'flannel.1', mac: '02:00:00:00:00:02', destination: '192.0.2.2' };
export const veth = { name: 'veth1', kind: 'veth', up: true, master: 'cni0' };
export const NODE = state({
  links: [vx],
  addresses: [{ device: 'flannel.1', address: '10.5.1.0/32' }],
  routes: [route],
  neighbours: [neighbour],
  fdb: [fdb],
});
