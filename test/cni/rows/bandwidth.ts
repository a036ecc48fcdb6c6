// 2f: limits on a pod's bandwidth, chained behind a pair of veths that a person might have made.

import assert from 'node:assert/strict';
import { atLeast } from '../../../cni-plugin/versions.ts';
import { printed, refused, silent } from '../expect.ts';
import { kindOf } from '../observe.ts';
import { type Json, podPath, type Stage } from '../stage.ts';
import { OWN_CODES, type Row, since } from '../table.ts';
import { bridgeConfig, V4 } from './attached.ts';
import { withPrevious } from './bridge-attach.ts';

const INGRESS = { ingressRate: 8_000_000, ingressBurst: 800_000 };
const EGRESS = { egressRate: 16_000_000, egressBurst: 800_000 };
/** In bytes a second, as tc shows it. */
const RATES = { ingress: 1_000_000, egress: 2_000_000 };
const HOST_END = 'host0';
const MTU = 1400;

interface Qdisc {
  readonly kind: string;
  readonly dev: string;
  readonly options: { readonly rate?: number; readonly lat?: number };
}

/** A pod with a pair, and the result that whoever made it would have printed. */
async function pair(stage: Stage, interfaces?: readonly Json[]): Promise<Json> {
  const netns = await stage.pod();
  await stage.sh(`
    ip link add ${HOST_END} mtu ${MTU} type veth peer name eth0 netns pod
    ip link set ${HOST_END} up
    ip -n pod link set eth0 up`);
  const family = atLeast(stage.version, '1.0.0') ? {} : { version: '4' };
  return {
    cniVersion: stage.version,
    interfaces: interfaces ?? [{ name: HOST_END }, { name: 'eth0', sandbox: netns }],
    ips: [{ ...family, address: '10.0.0.2/24', gateway: '10.0.0.1', interface: (interfaces?.length ?? 2) - 1 }],
  };
}

const configOf = (stage: Stage, prevResult: Json, keys: Json): Json =>
  stage.config('bandwidth', { ...keys, prevResult });

async function qdiscs({ machine }: Stage, device: string): Promise<Qdisc[]> {
  const all = JSON.parse(await machine.must('tc', ['-j', '-d', 'qdisc', 'show'])) as Qdisc[];
  return all.filter(({ dev, kind }) => dev === device && kind !== 'noqueue');
}

const tbf = async (stage: Stage, device: string): Promise<[rate?: number, microseconds?: number]> => {
  const [found] = (await qdiscs(stage, device)).filter(({ kind }) => kind === 'tbf');
  return found === undefined ? [] : [found.options.rate as number, found.options.lat as number];
};

/** Devices that each filter at the host's end redirects to. */
async function redirects({ machine }: Stage): Promise<string[]> {
  const filters = JSON.parse(
    await machine.must('tc', ['-j', 'filter', 'show', 'dev', HOST_END, 'parent', 'ffff:']),
  ) as {
    readonly options?: { readonly actions?: readonly { readonly to_dev?: string }[] };
  }[];
  // The reference's filter has the same action twice.
  return filters.flatMap(({ options }) => [...new Set((options?.actions ?? []).map(({ to_dev }) => to_dev ?? ''))]);
}

const ifbs = async (stage: Stage) => (await stage.observe()).links.filter((link) => kindOf(link) === 'ifb');

interface WithInterfaces {
  readonly interfaces: readonly { readonly name: string; readonly sandbox?: string }[];
}

/** Everything about both directions, then DEL. */
async function wholeLife(stage: Stage, keys: Json, prevResult: Json): Promise<void> {
  const config = configOf(stage, prevResult, keys);
  const result = printed(await stage.cni('bandwidth', 'ADD', config));
  const { interfaces } = result as unknown as WithInterfaces;
  const [ifb] = await ifbs(stage);
  assert.equal(
    interfaces.length,
    (prevResult as unknown as WithInterfaces).interfaces.length + 1,
    'one more interface',
  );
  assert.deepEqual([interfaces.at(-1)?.name, interfaces.at(-1)?.sandbox], [ifb?.ifname, undefined]);
  assert.equal(ifb?.mtu, MTU);
  assert.deepEqual(await tbf(stage, HOST_END), [RATES.ingress, 25_000], 'to the pod: rate, latency');
  assert.deepEqual(await tbf(stage, ifb.ifname), [RATES.egress, 25_000], 'from the pod');
  assert.deepEqual(await redirects(stage), [ifb.ifname], 'one filter, which redirects to it');
  const after = withPrevious(stage, stage.config('bandwidth', keys), result);
  if (atLeast(stage.version, '0.4.0')) silent(await stage.cni('bandwidth', 'CHECK', after), 'CHECK');
  silent(await stage.cni('bandwidth', 'DEL', after), 'DEL');
  assert.deepEqual(await ifbs(stage), [], 'the ifb is gone');
  silent(await stage.cni('bandwidth', 'DEL', after), 'DEL once more');
}

const both: Row = {
  id: 'both directions by the configuration; DEL',
  covers: ['bandwidth/ifb', 'bandwidth/third-interface', 'bandwidth/tbf', 'bandwidth/redirect', 'bandwidth/del'],
  versions: since('0.3.0'),
  run: async (stage) => wholeLife(stage, { ...INGRESS, ...EGRESS }, await pair(stage)),
};

const runtimeConfig: Row = {
  id: 'both directions by runtimeConfig',
  covers: ['bandwidth/runtime-config', 'bandwidth/ifb', 'bandwidth/tbf'],
  versions: since('0.3.0'),
  run: async (stage) =>
    wholeLife(stage, { runtimeConfig: { bandwidth: { ...INGRESS, ...EGRESS } } }, await pair(stage)),
};

const staticWins: Row = {
  id: "the configuration's own limits win over runtimeConfig",
  covers: ['bandwidth/static-wins'],
  versions: since('0.3.0'),
  async run(stage) {
    const bandwidth = { ingressRate: 80_000, ingressBurst: 80_000, egressRate: 80_000, egressBurst: 80_000 };
    await wholeLife(stage, { ...INGRESS, ...EGRESS, runtimeConfig: { bandwidth } }, await pair(stage));
  },
};

const oneWay: Row = {
  id: 'one direction alone',
  covers: ['bandwidth/egress-only', 'bandwidth/ingress-only'],
  versions: since('0.3.0'),
  async run(stage) {
    const previous = await pair(stage);
    const egress = configOf(stage, previous, EGRESS);
    printed(await stage.cni('bandwidth', 'ADD', egress));
    assert.deepEqual(await tbf(stage, HOST_END), [], 'egress: none to the pod');
    assert.equal((await ifbs(stage)).length, 1);
    silent(await stage.cni('bandwidth', 'DEL', egress), 'DEL');
    await stage.sh(`tc qdisc del dev ${HOST_END} ingress 2>/dev/null || :`);
    const ingress = configOf(stage, previous, INGRESS);
    const { interfaces } = printed(await stage.cni('bandwidth', 'ADD', ingress, { containerId: 'c2' }));
    assert.deepEqual(interfaces, previous.interfaces, 'ingress: no further interface');
    assert.deepEqual([await tbf(stage, HOST_END), await ifbs(stage)], [[RATES.ingress, 25_000], []]);
  },
};

const invalid: Row = {
  id: 'a rate without a burst, a burst without a rate, a burst of 4 GiB',
  covers: ['bandwidth/invalid', 'bandwidth/burst-limit'],
  versions: since('0.3.0'),
  differs: OWN_CODES,
  async run(stage) {
    const previous = await pair(stage);
    const wrong: readonly (readonly [keys: Json, msg: RegExp])[] = [
      [
        { ingressRate: 0, ingressBurst: 123, egressRate: 123, egressBurst: 123 },
        /if burst is set, rate must also be set/,
      ],
      [{ egressRate: 8000 }, /if rate is set, burst must also be set/],
      [{ ingressRate: 5000, ingressBurst: 4 * 2 ** 30 * 8 }, /burst cannot be more than 4GB/],
    ];
    for (const [keys, msg] of wrong) {
      refused(stage, await stage.cni('bandwidth', 'ADD', configOf(stage, previous, keys)), { ownCode: 7, msg });
    }
    printed(
      await stage.cni('bandwidth', 'ADD', configOf(stage, previous, { ingressRate: 5000, ingressBurst: 2 ** 35 - 16 })),
    );
  },
};

const none: Row = {
  id: 'without limits the result is handed on',
  covers: ['bandwidth/third-interface'],
  versions: since('0.3.0'),
  async run(stage) {
    const previous = await pair(stage);
    const { interfaces, ips } = printed(
      await stage.cni('bandwidth', 'ADD', configOf(stage, previous, { ingressRate: 0 })),
    );
    assert.deepEqual([interfaces, ips], [previous.interfaces, previous.ips]);
  },
};

const severalEnds: Row = {
  id: 'the right one of several host ends',
  covers: ['bandwidth/several-hosts'],
  versions: since('0.3.0'),
  async run(stage) {
    await stage.sh('ip link add other0 type veth peer name other1');
    const ends = [{ name: 'other0' }, { name: 'other1' }, { name: HOST_END }, { name: 'eth0', sandbox: podPath() }];
    await wholeLife(stage, { ...INGRESS, ...EGRESS }, await pair(stage, ends));
  },
};

const wrongEnds: Row = {
  id: 'results in which there is no host end',
  covers: ['bandwidth/no-peer', 'bandwidth/no-interfaces', 'bandwidth/mismatch'],
  versions: since('0.3.0'),
  differs: OWN_CODES,
  async run(stage) {
    const previous = await pair(stage);
    await stage.sh('ip -n pod link add link eth0 name mac0 type macvlan');
    const add = (interfaces: readonly Json[], ifname: string) =>
      stage.cni('bandwidth', 'ADD', configOf(stage, { ...previous, interfaces, ips: [] }, { ...INGRESS, ...EGRESS }), {
        ifname,
      });
    const inside = { name: 'eth0', sandbox: podPath() };
    const msg = stage.target.ours ? /interface|veth/ : /no veth peer|no interfaces provided|has no veth peer/;
    refused(stage, await add([{ name: HOST_END }, { name: 'mac0', sandbox: podPath() }], 'mac0'), { msg }, 'no veth');
    refused(stage, await add([], 'eth0'), { msg }, 'no interfaces');
    refused(stage, await add([{ name: `${HOST_END}-fake` }, inside], 'eth0'), { msg }, 'another host end');
    assert.deepEqual(await ifbs(stage), [], 'nothing is left');
  },
};

/** Seconds that the host takes to send to the pod. */
async function transfer(stage: Stage, pod: string, address: string, bytes: number): Promise<number> {
  const { machine } = stage;
  const sink =
    "require('node:net').createServer((s)=>s.on('data',(d)=>{s.n=(s.n??0)+d.length;if(s.n>=+process.argv[1])s.end('.')})).listen(80,()=>console.log(0))";
  const server = machine.start('nsenter', [`--net=/run/netns/${pod}`, process.execPath, '-e', sink, String(bytes)]);
  await new Promise((resolve) => server.stdout?.once('data', resolve));
  const started = performance.now();
  await machine.must('bash', ['-c', `exec 3<>/dev/tcp/${address}/80; head -c ${bytes} /dev/zero >&3; head -c 1 <&3`]);
  return (performance.now() - started) / 1000;
}

const throughput: Row = {
  id: 'a transfer takes a second longer than without a limit',
  covers: ['bandwidth/throughput'],
  async run(stage) {
    const attach = async (name: string) => {
      const netns = await stage.pod(name);
      const attachment = { netns, containerId: name };
      return { attachment, result: printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4), attachment)) };
    };
    const limited = await attach('limited');
    await attach('free');
    // 100 kB/s, of which the first 100 kB pass at once.
    const limit = { ingressRate: 800_000, ingressBurst: 800_000 };
    printed(await stage.cni('bandwidth', 'ADD', configOf(stage, limited.result, limit), limited.attachment));
    const [slow, fast] = [
      await transfer(stage, 'limited', '10.1.2.2', 250_000),
      await transfer(stage, 'free', '10.1.2.3', 250_000),
    ];
    assert.ok(slow > fast + 1, `${slow} s against ${fast} s`);
  },
};

export const BANDWIDTH_ROWS: readonly Row[] = [
  both,
  runtimeConfig,
  staticWins,
  oneWay,
  invalid,
  none,
  severalEnds,
  wrongEnds,
  throughput,
];
