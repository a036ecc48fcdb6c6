// Permanent neighbours and VXLAN forwarding entries.

import { add, type Case, must, pair, remove, replace, script, set } from './kernel-subject.ts';
import { fdb, neighbours } from './kernel-readings.ts';

const MAC = '02:00:00:00:00:99';
const MAC2 = '02:00:00:00:00:9a';

const UNDERLAYS = [
  { device: 'vx4', local: '192.0.2.1', vtep: '192.0.2.2', vtep2: '192.0.2.3', foreign: 'fd00::2' },
  { device: 'vx6', local: 'fd00::1', vtep: 'fd00::2', vtep2: 'fd00::3', foreign: '192.0.2.2' },
];

const vxlan = (device: string, local: string) =>
  add.link({ name: device, kind: 'vxlan', vxlan: { vni: 1, port: 8472, local } });

export const NEIGHBOUR_CASES: Readonly<Record<string, Case>> = {
  'neighbours: add, replace, delete': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    for (const ip of ['10.1.0.9', 'fd01::9']) {
      script(t, s, [
        [add.neighbour({ device: 'v0', ip, mac: MAC }), 'ok'],
        [add.neighbour({ device: 'v0', ip, mac: MAC2 }), 'EEXIST'],
        [replace.neighbour({ device: 'v0', ip, mac: MAC2 }), 'ok'],
        [add.neighbour({ device: 'v1', ip, mac: MAC }), 'ok'],
        [add.neighbour({ device: 'nope', ip, mac: MAC }), 'ENODEV'],
        [remove.neighbour({ device: 'nope', ip, mac: MAC }), 'ENODEV'],
      ]);
      t.strictSame(neighbours(s, 'v0', 'nope'), [`${ip} ${MAC2} v0`]);
      script(t, s, [
        [remove.neighbour({ device: 'v0', ip, mac: MAC }), 'ok'],
        [remove.neighbour({ device: 'v0', ip, mac: MAC }), 'ENOENT'],
        [replace.neighbour({ device: 'v0', ip, mac: MAC }), 'ok'],
        [remove.neighbour({ device: 'v0', ip, mac: MAC }), 'ok'],
        [remove.neighbour({ device: 'v1', ip, mac: MAC }), 'ok'],
      ]);
      t.strictSame(neighbours(s, 'v0', 'v1'), []);
    }
  },

  'a new MAC, even the same, ends what the device knew': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    for (const mac of ['02:00:00:00:00:51', '02:00:00:00:00:51']) {
      must(
        t,
        s,
        ...['10.1.0.9', 'fd01::9'].map((ip) => add.neighbour({ device: 'v0', ip, mac: MAC })),
        set('v0', { mac }),
      );
      t.strictSame(neighbours(s, 'v0'), []);
    }
  },

  'so does a MAC that a bridge takes from its ports': (t, s) => {
    must(t, s, add.link({ name: 'br0', kind: 'bridge' }), ...pair('v0', 'v1'));
    must(t, s, add.neighbour({ device: 'br0', ip: 'fd01::9', mac: MAC }), set('v0', { master: 'br0' }));
    t.strictSame(neighbours(s, 'br0'), []);
    must(
      t,
      s,
      add.neighbour({ device: 'br0', ip: 'fd01::9', mac: MAC }),
      ...pair('w0', 'w1', 2),
      set('w0', { master: 'br0' }),
    );
    t.strictSame(neighbours(s, 'br0'), [`fd01::9 ${MAC} br0`], 'the same MAC as before');
  },

  'neighbours stay without a carrier and go with down, and may be there while it is down': (t, s) => {
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      ...['10.1.0.9', 'fd01::9'].map((ip) => add.neighbour({ device: 'v0', ip, mac: MAC })),
    );
    must(t, s, set('v1', { up: false }));
    t.equal(neighbours(s, 'v0').length, 2);
    must(t, s, set('v0', { up: false }));
    t.equal(neighbours(s, 'v0').length, 0);
    must(
      t,
      s,
      ...['10.1.0.9', 'fd01::9'].map((ip) => add.neighbour({ device: 'v0', ip, mac: MAC })),
      set('v0', { up: true }),
    );
    t.equal(neighbours(s, 'v0').length, 2);
  },

  'the last IPv4 address takes the IPv4 neighbours along': (t, s) => {
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      ...['10.1.0.1/24', '10.2.0.1/24', 'fd01::1/64'].map((address) =>
        add.address({ device: 'v0', address, noDad: true }),
      ),
    );
    must(
      t,
      s,
      ...['10.1.0.9', 'fd01::9'].map((ip) => add.neighbour({ device: 'v0', ip, mac: MAC })),
      remove.address({ device: 'v0', address: '10.1.0.1/24' }),
    );
    t.equal(neighbours(s, 'v0').length, 2);
    must(
      t,
      s,
      remove.address({ device: 'v0', address: '10.2.0.1/24' }),
      remove.address({ device: 'v0', address: 'fd01::1/64' }),
    );
    t.strictSame(neighbours(s, 'v0'), [`fd01::9 ${MAC} v0`]);
  },

  'forwarding entries: add, replace, delete': (t, s) => {
    for (const { device, local, vtep, vtep2, foreign } of UNDERLAYS) {
      must(t, s, vxlan(device, local));
      script(t, s, [
        [add.fdb({ device, mac: MAC, destination: vtep }), 'ok'],
        [add.fdb({ device, mac: MAC, destination: vtep }), 'EEXIST'],
        [add.fdb({ device, mac: MAC, destination: vtep2 }), 'EEXIST'],
        [replace.fdb({ device, mac: MAC, destination: vtep2 }), 'ok'],
        [replace.fdb({ device, mac: MAC2, destination: vtep2 }), 'ok'],
        [add.fdb({ device, mac: '02:00:00:00:00:03', destination: foreign }), 'EAFNOSUPPORT'],
        [remove.fdb({ device, mac: '02:00:00:00:00:03', destination: vtep }), 'ENOENT'],
        [remove.fdb({ device, mac: MAC, destination: vtep }), 'ok'],
      ]);
      t.strictSame(
        fdb(s, device, 'nope'),
        [`${MAC} ${vtep2} ${device}`, `${MAC2} ${vtep2} ${device}`],
        'another destination deletes nothing',
      );
      script(t, s, [
        [remove.fdb({ device, mac: MAC, destination: vtep2 }), 'ok'],
        [remove.fdb({ device, mac: MAC, destination: vtep2 }), 'ENOENT'],
      ]);
      t.strictSame(fdb(s, device), [`${MAC2} ${vtep2} ${device}`]);
    }
  },

  'entries for groups can be added, never replaced': (t, s) => {
    for (const { device, local, vtep, vtep2 } of UNDERLAYS) {
      must(t, s, vxlan(device, local));
      for (const mac of ['00:00:00:00:00:00', '01:00:5e:00:00:01']) {
        script(t, s, [
          [replace.fdb({ device, mac, destination: vtep }), 'ENOTSUP'],
          [add.fdb({ device, mac, destination: vtep }), 'ok'],
          [add.fdb({ device, mac, destination: vtep2 }), 'EEXIST'],
          [replace.fdb({ device, mac, destination: vtep2 }), 'ENOTSUP'],
          [remove.fdb({ device, mac, destination: vtep }), 'ok'],
        ]);
      }
    }
  },

  'forwarding entries need a device that has such a thing': (t, s) => {
    const entry = { mac: MAC, destination: '192.0.2.2' };
    script(t, s, [
      [add.fdb({ device: 'lo', ...entry }), 'EINVAL'],
      [add.fdb({ device: 'nope', ...entry }), 'ENODEV'],
      [remove.fdb({ device: 'nope', ...entry }), 'ENODEV'],
    ]);
    t.strictSame(fdb(s, 'lo', 'nope'), []);
  },

  'forwarding entries stay through down, up and a new MAC': (t, s) => {
    must(
      t,
      s,
      vxlan('vx4', '192.0.2.1'),
      set('vx4', { up: true }),
      add.fdb({ device: 'vx4', mac: MAC, destination: '192.0.2.2' }),
    );
    must(t, s, set('vx4', { up: false }), set('vx4', { up: true }), set('vx4', { mac: '02:00:00:00:00:52' }));
    t.strictSame(fdb(s, 'vx4'), [`${MAC} 192.0.2.2 vx4`]);
  },
};
