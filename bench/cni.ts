// npm run bench -- cni: ADD and DEL as a runtime executes them, ours beside the reference plugins and a floor program
// that does only the kernel's part, all in one run. Order and machine are the same for each; every series has a machine
// (network, mount namespace, /run, /var/lib) of its own.

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { type Machine, startMachine } from '../examples/cluster/machine.ts';
import { until } from '../examples/cluster/cluster.ts';
import { build, install } from './build.ts';
import { FEATURES, type Feature, type Link, ourChain, referenceChain } from './cni-chains.ts';
import { type Execution, executeAll, type Series } from './exec.ts';
import type { PeerOptions } from './options.ts';
import { cpuOf } from './process.ts';
import { type Figures, figures, ms, table } from './stats.ts';

const VERSION = '1.0.0';
const PARALLEL = { pods: 64, atOnce: 16 };
/** Pods that come and go before: the first that counts is attached by a machine like any other's. */
const WARM_UP = 20;

export interface CniOptions extends PeerOptions {
  /** Pods of a sequential series. */
  readonly pods: number;
}

interface Contender {
  readonly name: string;
  readonly directory: string;
  readonly chain: (feature: Feature, pod: number) => Link[];
  readonly features: readonly Feature[];
  /** The agent's executable, when one runs in the machine. */
  readonly agent: string | undefined;
  readonly environment: Readonly<Record<string, string>>;
}

export interface SeriesFigures {
  readonly contender: string;
  readonly feature: Feature;
  readonly verb: 'ADD' | 'DEL';
  readonly atOnce: number;
  readonly wall: Figures;
  /** Processor milliseconds for each, the agent's share included. */
  readonly cpu: number;
  readonly podsPerSecond: number;
  /** Median of the last tenth over median of the first. */
  readonly growth: number;
}

function contenders({ root, peers }: CniOptions, agent: string): Contender[] {
  const features = FEATURES.map(({ name }) => name);
  const ours = { directory: `${root}/build/bin`, chain: ourChain, features };
  const reference = (directory: string): Contender => ({
    name: directory,
    directory,
    chain: referenceChain,
    features,
    agent: undefined,
    environment: {},
  });
  return [
    { ...ours, name: 'ours', agent, environment: {} },
    ...['/usr/lib/cni', ...peers].filter((directory) => existsSync(`${directory}/bridge`)).map(reference),
    {
      ...ours,
      name: 'ours, stand-alone',
      agent: undefined,
      environment: { FLANNEL_CNI_SOCKET: '' },
      features: ['bridge'],
    },
  ];
}

const environmentOf = (verb: string, pod: string, contender: Contender) => ({
  CNI_COMMAND: verb,
  CNI_CONTAINERID: pod,
  CNI_NETNS: `/run/netns/${pod}`,
  CNI_IFNAME: 'eth0',
  CNI_PATH: contender.directory,
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  ...contender.environment,
});

interface Run {
  readonly machine: Machine;
  readonly contender: Contender;
  readonly feature: Feature;
  readonly timer: string;
  /** Executes an ADD and waits until the pod answers. */
  readonly prober?: string | undefined;
  readonly scratch: string;
  readonly pods: readonly string[];
  readonly atOnce: number;
}

/** Network namespaces of these names, numbered. */
async function makePods(machine: Machine, name: string, count: number): Promise<string[]> {
  await machine.must('sh', ['-ec', `for i in $(seq 0 ${count - 1}); do ip netns add ${name}$i; done`], {
    timeoutMs: 120_000,
  });
  return Array.from({ length: count }, (_, index) => `${name}${index}`);
}

/** One verb on every pod, plugin by plugin, as a runtime goes through a list: DEL backwards. */
async function chainOver(run: Run, verb: 'ADD' | 'DEL', results: string[]): Promise<Series[]> {
  const { machine, contender, feature, timer, scratch, pods, atOnce } = run;
  const chains = pods.map((_, index) => contender.chain(feature, index));
  const length = chains[0]?.length ?? 0;
  const order = verb === 'ADD' ? [...Array(length).keys()] : [...Array(length).keys()].reverse();
  const series: Series[] = [];
  // From the end of ADD on, an echo request a millisecond, until one is answered.
  const asks = verb === 'ADD' ? run.prober : undefined;
  for (const position of order) {
    const executions = pods.map((pod, index): Execution => {
      const link = chains[index]?.[position] as Link;
      const previous = results[index] === undefined ? {} : { prevResult: JSON.parse(results[index] as string) };
      const config = { cniVersion: VERSION, name: 'bench', type: link.type, ...link.config, ...previous };
      const program = `${contender.directory}/${link.type}`;
      return {
        ...(asks === undefined ? { program } : { program: asks, arguments: ['10000', '1', program] }),
        environment: environmentOf(verb, pod, contender),
        input: JSON.stringify(config),
      };
    });
    const done = await executeAll(machine, timer, scratch, executions, atOnce);
    if (verb === 'ADD') for (const [index, { output }] of done.timings.entries()) results[index] = output;
    series.push(done);
  }
  return series;
}

/** A chain's times added up, pod by pod. */
function summed(run: Run, verb: 'ADD' | 'DEL', series: readonly Series[], agentCpu: number): SeriesFigures {
  const { contender, feature, pods, atOnce } = run;
  const wall = pods.map((_, index) => series.reduce((sum, { timings }) => sum + (timings[index]?.wall ?? 0), 0));
  const cpu = series.flatMap(({ timings }) => timings).reduce((sum, timing) => sum + timing.cpu, 0);
  const tenth = Math.max(1, Math.floor(wall.length / 10));
  return {
    contender: contender.name,
    feature,
    verb,
    atOnce,
    wall: figures(wall),
    cpu: (cpu + agentCpu) / pods.length,
    podsPerSecond: (1000 * pods.length) / series.reduce((sum, each) => sum + each.wall, 0),
    growth: figures(wall.slice(-tenth)).median / figures(wall.slice(0, tenth)).median,
  };
}

async function startAgent(machine: Machine, executable: string): Promise<number> {
  const agent = machine.start(executable, ['--cni-only']);
  agent.stdout?.resume();
  agent.stderr?.resume();
  await until(
    'the agent serves its socket',
    async () => (await machine.run('test', ['-S', '/run/flannel/cni.sock'])).code === 0,
  );
  return agent.pid as number;
}

async function measure(
  options: CniOptions,
  contender: Contender,
  feature: Feature,
  timer: string,
  count: number,
  atOnce: number,
): Promise<SeriesFigures[]> {
  const machine = await startMachine('bench');
  const scratch = mkdtempSync(`${tmpdir()}/flannel-bench-`);
  try {
    const pods = await makePods(machine, 'pod', count);
    const agent = contender.agent === undefined ? undefined : await startAgent(machine, contender.agent);
    const answers = FEATURES.some(({ name, answer }) => name === feature && answer);
    const prober = answers ? build(options.root, 'first-answer') : undefined;
    const run = { machine, contender, feature, timer, prober, scratch, pods, atOnce };
    const warmUp = { ...run, prober: undefined, pods: await makePods(machine, 'warm', WARM_UP) };
    const forgotten: string[] = [];
    for (const verb of ['ADD', 'DEL'] as const) await chainOver(warmUp, verb, forgotten);
    const results: string[] = [];
    const agentCpu = () => (agent === undefined ? 0 : cpuOf(agent));
    const before = agentCpu();
    const added = await chainOver(run, 'ADD', results);
    const between = agentCpu();
    const deleted = await chainOver(run, 'DEL', results);
    const after = agentCpu();
    return [summed(run, 'ADD', added, between - before), summed(run, 'DEL', deleted, after - between)];
  } finally {
    await machine.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The kernel's part alone, by a C program. */
async function measureFloor({ root, pods }: CniOptions, timer: string): Promise<SeriesFigures[]> {
  const floor = build(root, 'floor');
  const machine = await startMachine('bench');
  const scratch = mkdtempSync(`${tmpdir()}/flannel-bench-`);
  try {
    const names = Array.from({ length: pods }, (_, index) => `pod${index}`);
    await machine.must(
      'sh',
      [
        '-ec',
        `ip link add cni0 up type bridge; ip addr add 10.88.0.1/16 dev cni0; for i in $(seq 0 ${pods - 1}); do ip netns add pod$i; done`,
      ],
      { timeoutMs: 120_000 },
    );
    const contender: Contender = {
      name: 'floor (C)',
      directory: floor,
      chain: ourChain,
      features: ['bridge'],
      agent: undefined,
      environment: {},
    };
    const run = { machine, contender, feature: 'bridge' as const, timer, scratch, pods: names, atOnce: 1 };
    const verb = async (command: 'ADD' | 'DEL') => {
      const executions = names.map((pod, index) => {
        const add = [
          'add',
          'cni0',
          `veth${index}`,
          `/run/netns/${pod}`,
          'eth0',
          `10.88.${(index >> 8) + 1}.${index & 255}`,
          '16',
          '10.88.0.1',
        ];
        return {
          program: floor,
          arguments: command === 'ADD' ? add : ['del', `veth${index}`],
          environment: {},
          input: '',
        };
      });
      return summed(run, command, [await executeAll(machine, timer, scratch, executions)], 0);
    };
    return [await verb('ADD'), await verb('DEL')];
  } finally {
    await machine.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Every series, one after the other. @throws Error when an execution fails */
export async function benchCni(options: CniOptions): Promise<SeriesFigures[]> {
  const timer = build(options.root, 'exec-timer');
  const all = contenders(options, install(options.root));
  const results: SeriesFigures[] = [];
  options.progress('floor');
  results.push(...(await measureFloor(options, timer)));
  for (const { name: feature, title, answer } of FEATURES) {
    for (const contender of all.filter(({ features }) => features.includes(feature))) {
      options.progress(`${contender.name}: ${title}, one at a time`);
      const one = await measure(options, contender, feature, timer, options.pods, 1);
      results.push(...one.filter(({ verb }) => !answer || verb === 'ADD'));
      if (answer || contender.name.includes('stand-alone')) continue;
      options.progress(`${contender.name}: ${title}, ${PARALLEL.atOnce} at a time`);
      results.push(...(await measure(options, contender, feature, timer, PARALLEL.pods, PARALLEL.atOnce)));
    }
  }
  return results;
}

/** The results as tables, each row with its ratio to ours. */
export function printCni(results: readonly SeriesFigures[]): string {
  const series = FEATURES.flatMap(({ name, title }) =>
    (['ADD', 'DEL'] as const).flatMap((verb) =>
      [1, PARALLEL.atOnce].map((atOnce) => {
        const rows = results.filter((row) => row.feature === name && row.verb === verb && row.atOnce === atOnce);
        return seriesTable(`${verb}, ${title}`, rows, atOnce);
      }),
    ),
  );
  return series.join('');
}

/** Empty where ours was not measured. */
function seriesTable(what: string, rows: readonly SeriesFigures[], atOnce: number): string {
  const ours = rows.find(({ contender }) => contender === 'ours');
  if (ours === undefined) return '';
  const cells = rows.map((row) => [
    row.contender,
    ms(row.wall.median),
    ms(row.wall.p90),
    ms(row.wall.p99),
    ms(row.cpu),
    row.podsPerSecond.toFixed(0),
    row.growth.toFixed(2),
    atOnce === 1
      ? (ours.wall.median / row.wall.median).toFixed(2)
      : (ours.podsPerSecond / row.podsPerSecond).toFixed(1),
  ]);
  const [how, ratio] =
    atOnce === 1 ? ['one at a time', 'ours/this'] : [`${PARALLEL.pods} pods, ${atOnce} at a time`, 'ours/this, pods/s'];
  const head = ['', 'median', 'p90', 'p99', 'CPU each', 'pods/s', 'last/first', ratio];
  return `${what}, ${how} (ms)\n${table(head, cells)}\n`;
}
