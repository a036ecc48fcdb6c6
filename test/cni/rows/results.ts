// 2b, types: what is printed of a result that a chained plugin only hands on. portmap without mappings does just that.

import assert from 'node:assert/strict';
import { atLeast } from '../../../cni-plugin/versions.ts';
import { printed } from '../expect.ts';
import type { Json, Stage } from '../stage.ts';
import { type Defect, type Row, since } from '../table.ts';

const DNS = { nameservers: ['192.0.2.1'], domain: 'example.com', search: ['a.example.com'], options: ['rotate'] };

/** A result in the stage's version with everything that version has. */
function full({ version }: Stage): Json {
  const newest = version === '1.1.0';
  const family = (which: string) => (atLeast(version, '1.0.0') ? {} : { version: which });
  return {
    cniVersion: version,
    interfaces: [
      {
        name: 'eth0',
        mac: '02:00:00:00:00:01',
        sandbox: '/run/netns/pod',
        ...(newest && { mtu: 1400, pciID: '0000:00:02.0' }),
      },
      { name: 'net1', mac: '02:00:00:00:00:02', ...(newest && { socketPath: '/run/socket' }) },
    ],
    ips: [
      { ...family('4'), interface: 0, address: '10.1.2.3/24', gateway: '10.1.2.1' },
      { ...family('6'), address: '2001:db8::3/64' },
    ],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.1.2.1', ...(newest && { mtu: 1300, advmss: 1260, priority: 5, table: 0, scope: 0 }) },
      { dst: '2001:db8:1::/64' },
    ],
    dns: DNS,
  };
}

const handOn = async (stage: Stage, prevResult: Json): Promise<Json> => {
  await stage.pod();
  return printed(await stage.cni('portmap', 'ADD', stage.config('portmap', { prevResult })));
};

const exact: Row = {
  id: 'a result is handed on as it is, with everything its version has',
  covers: ['types/exact-1.1.0', 'types/interface-zero', 'types/interface-missing', 'types/to-0.4.0'],
  versions: since('0.3.0'),
  async run(stage) {
    assert.deepEqual(await handOn(stage, full(stage)), full(stage));
  },
};

const noVersion: Row = {
  id: "a result without a version is one of the configuration's",
  covers: ['types/exact-1.1.0', 'libcni/prev-result-chaining'],
  versions: since('0.3.0'),
  async run(stage) {
    const { cniVersion: _, ...result } = full(stage);
    assert.deepEqual(await handOn(stage, result), full(stage));
  },
};

const older: Row = {
  id: 'a result of 1.0.0 is handed on as one of 1.1.0',
  covers: ['types/1.0.0-to-1.1.0'],
  versions: ['1.1.0'],
  async run(stage) {
    const old = full({ ...stage, version: '1.0.0' });
    assert.deepEqual(await handOn(stage, old), { ...old, cniVersion: '1.1.0' });
  },
};

const LEAK: Defect = {
  releases: ['newer'],
  what: 'prints keys of 1.1.0 in results of earlier versions',
  cites: 'cni.md 1a, "Go conversion facts"',
};

const downgraded: Row = {
  id: 'keys of 1.1.0 are not printed in earlier versions',
  covers: ['types/to-0.4.0', 'types/to-0.1.0'],
  versions: ['0.3.1', '0.4.0', '1.0.0'],
  defects: [LEAK],
  async run(stage) {
    await stage.pod();
    const routes = [{ dst: '198.51.100.0/24', gw: '10.1.2.1', mtu: 1300, advmss: 1260, priority: 5 }];
    const ipam = { type: 'host-local', subnet: '10.1.2.0/24', routes };
    const answer = await stage.cni('bridge', 'ADD', stage.config('bridge', { bridge: 'br0', ipam }));
    const result = printed(answer) as { routes: Json[]; interfaces: Json[] };
    assert.deepEqual(result.routes, [{ dst: '198.51.100.0/24', gw: '10.1.2.1' }]);
    for (const each of result.interfaces) assert.ok(!('mtu' in each), 'interfaces[].mtu');
  },
};

const oldFamilies: Row = {
  id: 'results of 0.1.0 and 0.2.0: an address and the routes of each family',
  covers: ['types/to-0.1.0', 'types/0.2.0-route-gateways', 'types/0.2.0-no-route-gateways'],
  versions: ['0.1.0', '0.2.0'],
  async run(stage) {
    await stage.pod();
    const routes = [{ dst: '198.51.100.0/24', gw: '10.1.2.9' }, { dst: '203.0.113.0/24' }, { dst: '2001:db8:9::/64' }];
    const ranges = [[{ subnet: '10.1.2.0/24' }], [{ subnet: '2001:db8::/64' }]];
    const ipam = { type: 'host-local', ranges, routes };
    const config = stage.config('bridge', { bridge: 'br0', isGateway: true, ipam });
    const { dns: _, ...result } = printed(await stage.cni('bridge', 'ADD', config));
    assert.deepEqual(result, {
      cniVersion: stage.version,
      ip4: { ip: '10.1.2.2/24', gateway: '10.1.2.1', routes: routes.slice(0, 2) },
      ip6: { ip: '2001:db8::2/64', gateway: '2001:db8::1', routes: routes.slice(2) },
    });
  },
};

export const RESULT_ROWS: readonly Row[] = [exact, noVersion, older, downgraded, oldFamilies];
