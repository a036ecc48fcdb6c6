// Addresses the kernel assigns by itself.

import { add, type Case, must, remove, set, type Subject, sysctl } from './kernel-subject.ts';
import { addresses, eventually, read, routes } from './kernel-readings.ts';

const on = (device: string, address: string) => ({ device, address, noDad: true });

/** Link-local addresses of the devices. */
const linkLocal = (s: Subject, ...devices: string[]): string[] =>
  read(s, { addresses: devices })
    .addresses.filter(({ scope }) => scope === 'link')
    .map(({ device, address }) => `${device} ${address}`)
    .sort();

const linkLocalRoutes = (s: Subject): (string | undefined)[] =>
  read(s, { routes: { families: [6] } })
    .routes.filter(({ destination }) => destination === 'fe80::/64')
    .map(({ device, metric, protocol }) => `${device} ${metric} ${protocol}`)
    .sort();

export const ASSIGNED_CASES: Readonly<Record<string, Case>> = {
  'a device that is up with a carrier gets a link-local address from its MAC': async (t, s) => {
    must(
      t,
      s,
      add.link({
        name: 'v0',
        kind: 'veth',
        mac: '02:00:00:00:00:01',
        up: true,
        peer: { name: 'v1', mac: '02:00:00:00:00:02' },
      }),
    );
    t.strictSame(linkLocal(s, 'v0', 'v1'), [], 'no carrier yet');
    must(t, s, set('v1', { up: true }));
    await eventually(
      t,
      () => linkLocal(s, 'v0', 'v1'),
      ['v0 fe80::ff:fe00:1/64', 'v1 fe80::ff:fe00:2/64'],
      'addresses',
    );
    await eventually(t, () => linkLocalRoutes(s), ['v0 256 2', 'v1 256 2'], 'routes');
    must(t, s, set('v0', { up: false }));
    t.strictSame(
      [linkLocal(s, 'v0', 'v1'), linkLocalRoutes(s)],
      [['v1 fe80::ff:fe00:2/64'], ['v1 256 2']],
      'down ends it, no carrier does not',
    );
    must(t, s, set('v0', { mac: '02:00:00:00:00:03', up: true }));
    await eventually(t, () => linkLocal(s, 'v0'), ['v0 fe80::ff:fe00:3/64'], 'again, from the new MAC');
    must(t, s, remove.address({ device: 'v0', address: 'fe80::ff:fe00:3/64' }));
    t.strictSame([linkLocal(s, 'v0'), linkLocalRoutes(s)], [[], ['v1 256 2']]);
  },

  'and none with addr_gen_mode 1': async (t, s) => {
    must(t, s, add.link({ name: 'v0', kind: 'veth', peer: { name: 'v1', mac: '02:00:00:00:00:02' } }));
    must(t, s, sysctl('net/ipv6/conf/v0/addr_gen_mode', '1'), set('v0', { up: true }), set('v1', { up: true }));
    await eventually(t, () => linkLocal(s, 'v0', 'v1'), ['v1 fe80::ff:fe00:2/64'], 'its peer has one');
  },

  'the loopback device has its own': (t, s) => {
    t.strictSame(read(s, { addresses: 'all' }).addresses, []);
    must(t, s, set('lo', { up: true }));
    const found = read(s, { addresses: ['lo'] }).addresses;
    t.strictSame(found, [
      { device: 'lo', address: '127.0.0.1/8', scope: 'host', flags: [] },
      { device: 'lo', address: '::1/128', scope: 'host', flags: [] },
    ]);
    t.strictSame(routes(s), [], 'its routes are not of the main table');
    must(t, s, set('lo', { up: false }));
    t.strictSame(addresses(s, 'lo'), ['127.0.0.1/8']);
    must(t, s, remove.address(on('lo', '127.0.0.1/8')), add.address(on('lo', '10.1.0.1/32')), set('lo', { up: true }));
    t.strictSame(addresses(s, 'lo'), ['10.1.0.1/32', '127.0.0.1/8', '::1/128'], 'whatever else is there');
  },
};
