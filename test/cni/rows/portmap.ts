// 2e: host ports, as traffic that arrives or does not. Ours has its own table, so that of the reference's tests only the
// behaviour applies (cni.md 2e, "Run").

import assert from 'node:assert/strict';
import type { Container, Runtime } from '../libcni.ts';
import type { Json, Stage } from '../stage.ts';
import { type Row, since } from '../table.ts';
import { bridgeConfig, DUAL, type Net, V4 } from './attached.ts';
import { rules } from './bridge-rules.ts';
import { container, runtimeOn } from './runtime.ts';
import { ask, askInVain, HOST, neighbour, OUTSIDE, serve } from './traffic.ts';

export interface Mapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp';
  readonly hostIP?: string;
}

export const WEB: Mapping = { hostPort: 8080, containerPort: 80, protocol: 'tcp' };
const NAMES: Mapping = { hostPort: 8053, containerPort: 53, protocol: 'udp' };

/** Bridge and portmap in a list; the keys are portmap's. */
export function mapped(stage: Stage, keys: Json = {}, net: Net = DUAL): Runtime {
  const portmap = stage.config('portmap', { capabilities: { portMappings: true }, snat: true, ...keys });
  return runtimeOn(stage, [bridgeConfig(stage, net, { hairpinMode: true }), portmap]);
}

export const podWith = (stage: Stage, name: string, ...portMappings: readonly Mapping[]): Promise<Container> =>
  container(stage, name, { capabilityArgs: { portMappings } });

const tcp: Row = {
  id: 'TCP: directly, by the host, by localhost, from the pod itself; gone after DEL',
  covers: [
    'portmap/tcp-direct',
    'portmap/tcp-host-ip',
    'portmap/tcp-localhost',
    'portmap/tcp-hairpin',
    'portmap/tcp-del',
    'portmap/chain-create-destroy',
    'portmap/config-add',
    'portmap/config-default-backend',
  ],
  versions: since('0.3.0'),
  async run(stage) {
    await neighbour(stage);
    const runtime = mapped(stage);
    const pod = await podWith(stage, 'pod', WEB);
    await runtime.add(pod);
    await serve(stage, 'pod', 80);
    const port = 8080;
    assert.match((await ask(stage, { to: '192.168.0.2', port: 80 })) ?? '', /^pod /, 'directly');
    assert.match((await ask(stage, { to: HOST.v4, port })) ?? '', /^pod /, "by the host's address");
    assert.match((await ask(stage, { to: '127.0.0.1', port })) ?? '', /^pod /, 'by localhost');
    assert.match((await ask(stage, { from: 'pod', to: HOST.v4, port })) ?? '', /^pod /, 'from the pod itself');
    const outside = await ask(stage, { from: OUTSIDE, to: HOST.v4, port });
    assert.equal(outside, 'pod 192.0.2.2', "from the neighbour, with the neighbour's address");
    await runtime.del(pod);
    await runtime.del(pod);
    assert.equal(await askInVain(stage, { from: OUTSIDE, to: HOST.v4, port }), undefined, 'after DEL');
    assert.doesNotMatch(await rules(stage), /192\.168\.0\.2\b|fd00::2\b/, "no rule speaks of the pod's addresses");
  },
};

const v6: Row = {
  id: 'TCP over IPv6: by the host',
  covers: ['portmap/tcp-host-ip', 'portmap/rules-standard'],
  async run(stage) {
    await neighbour(stage);
    const runtime = mapped(stage);
    await runtime.add(await podWith(stage, 'pod', WEB));
    await serve(stage, 'pod', 80);
    // The reference's gateway does duplicate address detection for a second after ADD.
    await stage.sh('for i in $(seq 30); do ip -6 addr show tentative | grep -q inet6 || break; sleep 0.1; done');
    const answer = await ask(stage, { from: OUTSIDE, to: HOST.v6, port: 8080 });
    assert.equal(answer, 'pod 2001:db8:ffff::2');
  },
};

const udp: Row = {
  id: 'UDP: by the host; a second container takes the port and traffic follows',
  covers: ['portmap/udp', 'portmap/udp-second'],
  versions: since('0.3.0'),
  async run(stage) {
    await neighbour(stage);
    const runtime = mapped(stage, {}, V4);
    const question = { from: OUTSIDE, protocol: 'udp', to: HOST.v4, port: 8053 } as const;
    const first = await podWith(stage, 'first', NAMES);
    await runtime.add(first);
    await serve(stage, 'first', 53);
    assert.match((await ask(stage, question)) ?? '', /^first /);
    await runtime.del(first);
    const second = await podWith(stage, 'second', NAMES);
    await runtime.add(second);
    await serve(stage, 'second', 53);
    assert.match((await ask(stage, question)) ?? '', /^second /);
  },
};

const hostIps: Row = {
  id: 'several mappings, for addresses of the host and for any',
  covers: ['portmap/rules-standard', 'portmap/rules-top-level'],
  async run(stage) {
    await neighbour(stage);
    await stage.sh('ip addr add 192.0.2.9/24 dev out0');
    const runtime = mapped(stage);
    const on = (hostPort: number, containerPort: number, hostIP: string): Mapping => ({
      hostPort,
      containerPort,
      protocol: 'tcp',
      hostIP,
    });
    const mappings = [
      WEB,
      { ...WEB, hostPort: 8081 },
      NAMES,
      on(8083, 83, '192.0.2.9'),
      on(8084, 80, '0.0.0.0'),
      on(8085, 80, HOST.v6),
      on(8086, 80, '::'),
    ];
    await runtime.add(await podWith(stage, 'pod', ...mappings));
    await serve(stage, 'pod', 80, 83, 53);
    const reached = async (to: string, port: number, protocol: 'tcp' | 'udp' = 'tcp') =>
      (await ask(stage, { from: OUTSIDE, to, port, protocol })) !== undefined;
    await stage.sh('for i in $(seq 30); do ip -6 addr show tentative | grep -q inet6 || break; sleep 0.1; done');
    for (const [to, port] of [
      [HOST.v4, 8080],
      [HOST.v4, 8081],
      ['192.0.2.9', 8083],
      [HOST.v4, 8084],
      [HOST.v6, 8085],
      [HOST.v6, 8086],
    ] as const) {
      assert.ok(await reached(to, port), `${to} port ${port}`);
    }
    assert.ok(await reached(HOST.v4, 8053, 'udp'));
    assert.ok(!(await reached(HOST.v4, 8083)), 'not by another address than the one asked for');
    assert.ok(!(await reached(HOST.v4, 8085)), 'not by the other family');
    assert.equal(
      await askInVain(stage, { from: 'pod', to: '192.0.2.2', port: 8080 }),
      undefined,
      'only local addresses',
    );
  },
};

export const PORTMAP_ROWS: readonly Row[] = [tcp, v6, udp, hostIps];
