// Bridges and their ports.

import { bridge, type Case, must, remove, script, set, veth, vxlan } from './kernel-subject.ts';
import { link, linkNames, shown } from './kernel-readings.ts';

export const BRIDGE_CASES: Readonly<Record<string, Case>> = {
  'port options are for ports, and come in after the port is one': (t, s) => {
    script(t, s, [
      [veth('v0', 'v1', { port: { hairpin: true } }), 'ENOTSUP'],
      [set('v0', { port: { hairpin: true }, up: true }), 'ENOTSUP'],
    ]);
    t.strictSame(shown(s, 'v0', 'up', 'port'), [true, undefined], 'the link itself is there and changed');
    must(
      t,
      s,
      bridge('br0'),
      set('v0', { master: 'br0', port: { isolated: true } }),
      set('v0', { port: { hairpin: true } }),
    );
    t.strictSame(shown(s, 'v0', 'master', 'port'), ['br0', { hairpin: true, isolated: true }]);
  },

  'a port moves, with fresh options, and leaves': (t, s) => {
    must(
      t,
      s,
      bridge('br0'),
      bridge('br1'),
      veth('v0', 'v1', { master: 'br0', port: { hairpin: true } }),
      set('v0', { master: 'br1' }),
    );
    t.strictSame(shown(s, 'v0', 'master', 'port'), ['br1', { hairpin: false, isolated: false }]);
    must(t, s, set('v0', { port: { hairpin: true } }), set('v0', { master: 'br1' }));
    t.strictSame(
      shown(s, 'v0', 'master', 'port'),
      ['br1', { hairpin: true, isolated: false }],
      'the same master again changes nothing',
    );
    must(t, s, set('v0', { master: null }), set('v0', { master: null }));
    t.strictSame(shown(s, 'v0', 'master', 'port'), [null, undefined]);
  },

  'what can be a master, and of whom': (t, s) => {
    must(t, s, bridge('br0'), bridge('br1'), veth('v0', 'v1'));
    script(t, s, [
      [set('v0', { master: 'nope' }), 'ENODEV'],
      [set('v0', { master: 'v1' }), 'ENOTSUP'],
      [set('br1', { master: 'br0' }), 'ELOOP'],
      [set('br0', { master: 'br0' }), 'ELOOP'],
      [set('lo', { master: 'br0' }), 'EINVAL'],
      [bridge('br2', { master: 'br0' }), 'ELOOP'],
      [vxlan('vx1', {}, { master: 'br0' }), 'ok'],
    ]);
    t.strictSame(linkNames(s), ['br0', 'br1', 'lo', 'v0', 'v1', 'vx1']);
  },

  'a bridge follows its ports until somebody decides': (t, s) => {
    must(t, s, bridge('br0', { mtu: 1400 }), veth('v0', 'v1', { mac: '02:00:00:00:00:05', mtu: 1450, master: 'br0' }));
    t.strictSame(shown(s, 'br0', 'mac', 'mtu'), ['02:00:00:00:00:05', 1450], 'an MTU it was born with decides nothing');
    must(t, s, veth('w0', 'w1', { mac: '02:00:00:00:00:03', mtu: 1410, master: 'br0' }));
    t.strictSame(shown(s, 'br0', 'mac', 'mtu'), ['02:00:00:00:00:03', 1410]);
    must(t, s, set('w0', { mac: '02:00:00:00:00:09', mtu: 1420 }));
    t.strictSame(shown(s, 'br0', 'mac', 'mtu'), ['02:00:00:00:00:05', 1420]);
    must(t, s, remove.link({ name: 'w0', kind: 'veth' }), set('v0', { master: null }));
    t.strictSame(shown(s, 'br0', 'mac', 'mtu'), ['00:00:00:00:00:00', 1500]);
    must(t, s, set('br0', { mtu: 1300, mac: '02:00:00:00:00:b0' }), set('v0', { master: 'br0' }));
    t.strictSame(shown(s, 'br0', 'mac', 'mtu'), ['02:00:00:00:00:b0', 1300]);
    must(t, s, bridge('br1', { mac: '02:00:00:00:00:b1' }), set('v0', { master: 'br1' }));
    t.strictSame(shown(s, 'br1', 'mac', 'mtu'), ['02:00:00:00:00:b1', 1450], 'a MAC it was born with does');
  },

  'an equal MTU decides nothing for a bridge': (t, s) => {
    must(t, s, bridge('br0'), set('br0', { mtu: 1500 }), veth('v0', 'v1', { mtu: 1400, master: 'br0' }));
    t.equal(link(s, 'br0').mtu, 1400);
  },
};
