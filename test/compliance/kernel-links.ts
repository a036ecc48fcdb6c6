// Links: birth, change, carrier, death.

import { add, bridge, type Case, must, pair, remove, script, set, veth, vxlan } from './kernel-subject.ts';
import { eventually, link, linkNames, plain, shown } from './kernel-readings.ts';

export const LINK_CASES: Readonly<Record<string, Case>> = {
  'a name is taken once, whatever the kind': (t, s) => {
    script(t, s, [
      [bridge('x0'), 'ok'],
      [bridge('x0'), 'EEXIST'],
      [veth('x0', 'x1'), 'EEXIST'],
      [veth('x1', 'x0'), 'EEXIST'],
      [veth('x1', 'x1'), 'EEXIST'],
      [remove.link({ name: 'x0', kind: 'bridge' }), 'ok'],
      [remove.link({ name: 'x0', kind: 'bridge' }), 'ENODEV'],
      [veth('x0', 'x1'), 'ok'],
    ]);
    t.strictSame(linkNames(s), ['lo', 'x0', 'x1']);
  },

  'names the kernel has no place for': (t, s) => {
    for (const name of ['a/b', 'a b', 'a:b', 'a\tb', '.', '..', 'all', 'default', 'a%sb', 'à']) {
      script(t, s, [
        [bridge(name), 'EINVAL'],
        [veth('v0', name), 'EINVAL'],
      ]);
    }
    t.strictSame(s.kernel.apply(s.namespace, [bridge('')])[0]?.error.errno, 'EINVAL', 'no name');
    t.strictSame(s.kernel.apply(s.namespace, [bridge('a\0b')])[0]?.error.errno, 'EINVAL', 'a name with a NUL');
    script(t, s, [
      [bridge('sixteen-bytes-xx'), 'ERANGE'],
      [bridge('fifteen-bytes-x'), 'ok'],
      [bridge('ééééééé'), 'ok'],
      [bridge('éééééééé'), 'ERANGE'],
      [bridge('";{}\'$(x)'), 'ok'],
    ]);
    t.strictSame(linkNames(s), ['";{}\'$(x)', 'fifteen-bytes-x', 'lo', 'ééééééé'].sort());
  },

  'kinds, MACs and MTUs the kernel refuses': (t, s) => {
    script(t, s, [
      [add.link({ name: 'x0', kind: 'nosuchkind' }), 'ENOTSUP'],
      [add.link({ name: 'a/b', kind: 'nosuchkind' }), 'ENOTSUP'],
      [add.link({ name: 'x0', kind: 'device' }), 'ENOTSUP'],
      [add.link({ name: 'x0', kind: 'tun' }), 'ENOTSUP'],
      [add.link({ name: 'x0', kind: 'ifb' }), 'ok'],
      [bridge('x1', { mac: '00:00:00:00:00:00' }), 'EADDRNOTAVAIL'],
      [bridge('x1', { mac: '01:00:00:00:00:00' }), 'EADDRNOTAVAIL'],
      [add.link({ name: 'x1', kind: 'veth', peer: { name: 'x2', mac: '01:00:00:00:00:00' } }), 'EADDRNOTAVAIL'],
      [bridge('x1', { mtu: 67 }), 'EINVAL'],
      [bridge('x1', { mtu: 65536 }), 'EINVAL'],
      [add.link({ name: 'x1', kind: 'veth', peer: { name: 'x2', mtu: 67 } }), 'EINVAL'],
      [bridge('x1', { mtu: 68 }), 'ok'],
      [set('x1', { mtu: 67 }), 'EINVAL'],
      [set('x1', { mtu: 65536 }), 'EINVAL'],
      [set('x1', { mtu: 65535 }), 'ok'],
      [set('x1', { mac: '00:00:00:00:00:00' }), 'EADDRNOTAVAIL'],
      [set('x1', { mac: '03:00:00:00:00:01' }), 'EADDRNOTAVAIL'],
      [set('nope', { up: true }), 'ENODEV'],
      [set('lo', { mtu: 70_000 }), 'ok'],
      [remove.link({ name: 'lo', kind: 'device' }), 'ENOTSUP'],
    ]);
    t.strictSame(linkNames(s), ['lo', 'x0', 'x1']);
  },

  'everything about a link is read': (t, s) => {
    must(t, s, bridge('br0', { mac: '02:00:00:00:00:b0', mtu: 1400, bridge: { nfCallIptables: true } }));
    const { index, ...rest } = link(s, 'br0');
    t.ok(index && index > 1);
    t.strictSame(rest, {
      name: 'br0',
      kind: 'bridge',
      up: false,
      operational: false,
      promiscuous: false,
      mtu: 1400,
      master: null,
      mac: '02:00:00:00:00:b0',
      bridge: { nfCallIptables: true, nfCallIp6tables: false },
    });
    must(
      t,
      s,
      vxlan('vx1', { learning: false }),
      vxlan('vx2', { vni: 2, local: 'fd00::1', gbp: true }),
      vxlan('vx3', { vni: 3, local: undefined }),
    );
    t.strictSame(plain(link(s, 'vx1').vxlan), { vni: 1, port: 8472, local: '192.0.2.1', learning: false, gbp: false });
    t.strictSame(plain(link(s, 'vx2').vxlan), { vni: 2, port: 8472, local: 'fd00::1', learning: true, gbp: true });
    t.strictSame(plain(link(s, 'vx3').vxlan), { vni: 3, port: 8472, learning: true, gbp: false });
    t.match(link(s, 'lo'), { index: 1, kind: 'device', up: false, mac: '00:00:00:00:00:00', mtu: 65536 });
  },

  'options change one by one': (t, s) => {
    must(t, s, bridge('br0', { bridge: { nfCallIptables: true } }));
    must(t, s, set('br0', { bridge: { nfCallIp6tables: true } }), set('br0', { promiscuous: true, up: true }));
    t.strictSame(shown(s, 'br0', 'up', 'promiscuous', 'bridge'), [
      true,
      true,
      { nfCallIptables: true, nfCallIp6tables: true },
    ]);
    must(t, s, set('br0', { promiscuous: false }), set('br0', { bridge: { nfCallIptables: false } }));
    t.strictSame(shown(s, 'br0', 'up', 'promiscuous', 'bridge'), [
      true,
      false,
      { nfCallIptables: false, nfCallIp6tables: true },
    ]);
    script(t, s, [[set('lo', { bridge: { nfCallIptables: true } }), 'ENOTSUP']]);
  },

  'what a change did before it was refused stays': (t, s) => {
    must(t, s, veth('v0', 'v1'));
    script(t, s, [[set('v0', { mac: '02:00:00:00:00:77', mtu: 67, up: true }), 'EINVAL']]);
    t.strictSame(shown(s, 'v0', 'mac', 'up'), ['02:00:00:00:00:77', false]);
  },

  'a veth and its peer in another namespace are born by one message': (t, s) => {
    must(
      t,
      s,
      bridge('br0', { up: true, mac: '02:00:00:00:00:b0' }),
      add.link({
        name: 'veth1',
        kind: 'veth',
        mac: '02:00:00:00:01:01',
        mtu: 1450,
        up: true,
        master: 'br0',
        port: { hairpin: true },
        peer: { name: 'eth0', mac: '02:00:00:00:01:02', mtu: 1440, namespace: s.other },
      }),
    );
    const host = link(s, 'veth1');
    const pod = link(s, 'eth0', s.other);
    t.match(host, {
      kind: 'veth',
      mac: '02:00:00:00:01:01',
      mtu: 1450,
      up: true,
      master: 'br0',
      port: { hairpin: true, isolated: false },
    });
    t.match(pod, { kind: 'veth', mac: '02:00:00:00:01:02', mtu: 1440, up: false, master: null });
    t.strictSame([host.peerIndex, pod.peerIndex], [pod.index, host.index], 'each knows the other');
    t.strictSame(linkNames(s), ['br0', 'lo', 'veth1']);
    t.strictSame(linkNames(s, s.other), ['eth0', 'lo']);
  },

  'a veth that is refused leaves neither end': (t, s) => {
    must(t, s, add.link({ name: 'veth1', kind: 'veth', peer: { name: 'eth0', namespace: s.other } }));
    script(t, s, [
      [add.link({ name: 'veth2', kind: 'veth', peer: { name: 'eth0', namespace: s.other } }), 'EEXIST'],
      [add.link({ name: 'veth1', kind: 'veth', peer: { name: 'eth1', namespace: s.other } }), 'EEXIST'],
      [add.link({ name: 'veth2', kind: 'veth', master: 'nope', peer: { name: 'eth1', namespace: s.other } }), 'ENODEV'],
      [
        add.link({ name: 'veth2', kind: 'veth', master: 'veth1', peer: { name: 'eth1', namespace: s.other } }),
        'ENOTSUP',
      ],
    ]);
    t.strictSame(
      [linkNames(s), linkNames(s, s.other)],
      [
        ['lo', 'veth1'],
        ['eth0', 'lo'],
      ],
    );
  },

  'a veth without a named peer gets one': (t, s) => {
    must(t, s, add.link({ name: 'v0', kind: 'veth' }), add.link({ name: 'v1', kind: 'veth' }));
    t.strictSame(linkNames(s), ['lo', 'v0', 'v1', 'veth0', 'veth1']);
  },

  'a link is operational with a carrier': async (t, s) => {
    const state = () => ['v0', 'v1', 'br0', 'br1', 'vx1'].map((name) => link(s, name).operational);
    must(
      t,
      s,
      veth('v0', 'v1', { up: true }),
      bridge('br0', { up: true }),
      bridge('br1', { up: true, mac: '02:00:00:00:00:b1' }),
      vxlan('vx1', {}, { up: true }),
    );
    await eventually(
      t,
      state,
      [false, false, true, false, true],
      'a veth waits for its peer, a bridge whose MAC is chosen for a port',
    );
    must(t, s, set('v1', { up: true }), set('v0', { master: 'br1' }));
    await eventually(t, state, [true, true, true, true, true], 'the port has a carrier');
    must(t, s, set('v0', { master: 'br0' }));
    await eventually(t, state, [true, true, true, false, true], 'the port has moved');
    must(t, s, set('v1', { up: false }));
    await eventually(t, state, [false, false, false, false, true], 'the peer went down');
    must(t, s, set('vx1', { up: false }));
    await eventually(t, state, [false, false, false, false, false], 'down is never operational');
  },

  'indexes are not given again': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    const before = Math.max(link(s, 'v0').index ?? 0, link(s, 'v1').index ?? 0);
    must(t, s, remove.link({ name: 'v0', kind: 'veth' }), ...pair('v0', 'v1'));
    t.ok(Math.min(link(s, 'v0').index ?? 0, link(s, 'v1').index ?? 0) > before);
  },
};
