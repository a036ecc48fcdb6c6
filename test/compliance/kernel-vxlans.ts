// VXLAN devices.

import { add, type Case, must, script, set, veth, vxlan } from './kernel-subject.ts';
import { link, linkNames } from './kernel-readings.ts';

export const VXLAN_CASES: Readonly<Record<string, Case>> = {
  'a VXLAN segment belongs to one device': (t, s) => {
    script(t, s, [
      [add.link({ name: 'vx0', kind: 'vxlan' }), 'EINVAL'],
      [vxlan('vx0', { vni: 1 << 24 }), 'ERANGE'],
      [vxlan('vx0', { local: '224.0.0.1' }), 'EINVAL'],
      [vxlan('vx0', { device: 'nope' }), 'ENODEV'],
      [vxlan('vx0', {}, { mtu: 67 }), 'EINVAL'],
      [vxlan('vx0', {}, { mtu: 65536 }), 'EINVAL'],
      [vxlan('vx1', {}), 'ok'],
      [vxlan('vx2', { local: '192.0.2.2' }), 'EEXIST'],
      [vxlan('vx2', { port: 4789 }), 'ok'],
      [vxlan('vx3', { vni: 2 }), 'ok'],
      [vxlan('vx4', { local: 'fd00::1' }), 'ok'],
      [vxlan('vx5', { local: 'fd00::2' }), 'EEXIST'],
      [vxlan('vx6', { gbp: true }), 'ok'],
    ]);
  },

  'VXLANs share a UDP port only in one dialect': (t, s) => {
    script(t, s, [
      [vxlan('vx1', {}, { up: true }), 'ok'],
      [vxlan('vx2', { vni: 2 }, { up: true }), 'ok'],
      [vxlan('vx3', { vni: 3, gbp: true }, { up: true }), 'EADDRINUSE'],
      [vxlan('vx3', { vni: 3, gbp: true }), 'ok'],
      [set('vx3', { up: true }), 'EADDRINUSE'],
      [vxlan('vx4', { vni: 4, gbp: true, port: 4789 }, { up: true }), 'ok'],
      [vxlan('vx5', { vni: 5, gbp: true, local: 'fd00::1' }, { up: true }), 'ok'],
      [set('vx1', { up: false }), 'ok'],
      [set('vx2', { up: false }), 'ok'],
      [set('vx3', { up: true }), 'ok'],
    ]);
    t.strictSame(linkNames(s), ['lo', 'vx1', 'vx2', 'vx3', 'vx4', 'vx5']);
  },

  "a VXLAN's checksum offload": (t, s) => {
    must(t, s, vxlan('vx1', {}, { up: true }), vxlan('vx2', { vni: 2 }, { txChecksum: false }), veth('v0', 'v1'));
    const offloads = () => ['vx1', 'vx2', 'v0'].map((name) => link(s, name).txChecksum);
    t.strictSame(offloads(), [true, false, undefined], 'on unless it is born without; of others it is not told');
    script(t, s, [
      [set('vx1', { txChecksum: false, mtu: 1300 }), 'ok'],
      [set('vx2', { txChecksum: true }), 'ok'],
      [set('nope', { txChecksum: true }), 'ENODEV'],
    ]);
    t.strictSame([...offloads(), link(s, 'vx1').mtu], [false, true, undefined, 1300]);
  },

  'a VXLAN carries less than its underlay': (t, s) => {
    must(
      t,
      s,
      veth('v0', 'v1'),
      vxlan('vx1', { device: 'v0' }, { mtu: 1500 }),
      vxlan('vx2', { vni: 2, local: 'fd00::1', device: 'v0' }),
    );
    t.strictSame([link(s, 'vx1').mtu, link(s, 'vx2').mtu, link(s, 'vx1').vxlan?.device], [1450, 1430, 'v0']);
    script(t, s, [
      [set('vx1', { mtu: 1451 }), 'EINVAL'],
      [set('vx1', { mtu: 1400 }), 'ok'],
      [vxlan('vx3', { vni: 3, device: 'v0' }, { mtu: 1200 }), 'ok'],
      [set('v0', { mtu: 1300 }), 'ok'],
    ]);
    t.strictSame(
      [link(s, 'vx1').mtu, link(s, 'vx3').mtu],
      [1400, 1200],
      'a smaller underlay changes nothing by itself',
    );
  },
};
