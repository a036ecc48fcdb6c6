// `flanneld policy why` and `flanneld policy trace` as values: their command line, what is asked of the agent, and the
// answers in words. Pure.

import { NetError } from '../../model/errors.ts';
import { tryIp } from '../../model/ip.ts';
import { type Environment, invalid } from '../arguments.ts';
import type { TraceLine } from './named.ts';
import { PROTOCOLS, type Protocol } from './objects.ts';
import type { SideAnswer, WhyAnswer, WhyQuestion } from './why.ts';

export interface PolicyCommand {
  /** Undefined: trace. */
  readonly question: WhyQuestion | undefined;
  readonly subnetFile: string;
  readonly json: boolean;
}

export const POLICY_USAGE = `Usage: flanneld policy why --from POD --to POD --port PORT[/PROTOCOL] [--json] [--subnet-file PATH]
       flanneld policy trace [--json] [--subnet-file PATH]

why     Whether this node lets a flow begin, by which policies, and whether the kernel's table says the same.
        POD: NAMESPACE/NAME or an address. PROTOCOL: tcp (default), udp or sctp.
        Exit codes: 0 allowed, 1 denied, 2 nobody knows, 3 policies and table differ.
trace   Prints samples of what policies drop from now on, until it is interrupted; the agent has to run with
        --policy-log-denied.
`;

const FLAGS = ['from', 'to', 'port', 'subnet-file', 'json'];
const SUBNET_FILE = '/run/flannel/subnet.env';

/** The words behind "policy". The subnet file is the agent's own, from the environment too. @throws NetError invalid-flag */
export function readPolicyCommand(argv: readonly string[], env: Environment): PolicyCommand {
  const [verb, ...rest] = argv;
  if (verb !== 'why' && verb !== 'trace')
    throw invalid(`${['policy', ...argv.slice(0, 1)].join(' ')}: expected policy why or policy trace`, 'policy');
  const given = readFlags(rest);
  const subnetFile = given.get('subnet-file') ?? (env.FLANNELD_SUBNET_FILE || SUBNET_FILE);
  const json = given.has('json');
  if (verb === 'why') return { question: questionOf(given), subnetFile, json };
  for (const name of ['from', 'to', 'port']) {
    if (given.has(name)) throw invalid(`--${name}: a flag of flanneld policy why only`, `--${name}`);
  }
  return { question: undefined, subnetFile, json };
}

function readFlags(words: readonly string[]): Map<string, string> {
  const given = new Map<string, string>();
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const match = /^--?([a-z-]+)(?:=(.*))?$/s.exec(word);
    const name = match?.[1] ?? '';
    if (match === null) throw invalid(`argument "${word}": not expected`, word);
    if (!FLAGS.includes(name)) throw invalid(`${word}: unknown flag`, word);
    const value = match?.[2] ?? (name === 'json' ? 'true' : rest.shift());
    if (value === undefined) throw invalid(`--${name}: expected a value, got nothing`, `--${name}`);
    given.set(name, value);
  }
  return given;
}

/** @throws NetError invalid-flag naming the flag */
function questionOf(given: ReadonlyMap<string, string>): WhyQuestion {
  const end = (name: 'from' | 'to'): string => {
    const text = given.get(name);
    if (text === undefined) throw invalid(`--${name}: expected NAMESPACE/NAME or an address, got nothing`, `--${name}`);
    const address = tryIp(text);
    if (address !== undefined || /^[^/\s]+\/[^/\s]+$/.test(text)) return address ?? text;
    throw invalid(`--${name} ${JSON.stringify(text)}: expected NAMESPACE/NAME or an address`, `--${name}`);
  };
  const ends = { from: end('from'), to: end('to') };
  return { ...ends, ...portOf(given.get('port') ?? '') };
}

function portOf(text: string): Pick<WhyQuestion, 'port' | 'protocol'> {
  const match = /^(\d{1,5})(?:\/(\w+))?$/.exec(text);
  const port = Number(match?.[1]);
  const name = (match?.[2] ?? 'tcp').toUpperCase();
  if (match !== null && port >= 1 && port <= 65_535 && Object.hasOwn(PROTOCOLS, name))
    return { port, protocol: name as Protocol };
  throw invalid(`--port ${JSON.stringify(text)}: expected a port, /tcp, /udp or /sctp behind it`, '--port');
}

/** What is asked of the agent. */
export const WHY_PATH = '/policy/why';
export const TRACE_PATH = '/policy/trace';

/** The path that asks it, which {@link questionIn} reads. */
export const whyPath = ({ from, to, port, protocol }: WhyQuestion): string =>
  `${WHY_PATH}?${new URLSearchParams({ from, to, port: `${port}/${protocol.toLowerCase()}` })}`;

/** The question of a path. @throws NetError invalid-flag */
export const questionIn = (path: string): WhyQuestion => questionOf(new Map(new URLSearchParams(path.split('?')[1])));

/** In words, and the exit code. */
export function printWhy(answer: WhyAnswer, { port, protocol }: WhyQuestion): { text: string; exitCode: number } {
  if (answer.problem !== undefined) return { text: `${answer.problem}\n`, exitCode: 2 };
  const lines = answer.flows.flatMap(({ from, to, verdict, sides, kernel, differs }) => [
    `${from} to ${to}, ${port}/${protocol.toLowerCase()}: ${verdict}`,
    ...sides.map(sideText),
    `  kernel: ${kernel.verdict}${kernel.where === undefined ? '' : ` (${kernel.where})`}${differs ? ', WHICH DIFFERS' : ''}`,
  ]);
  const has = (test: (flow: (typeof answer.flows)[number]) => boolean) => answer.flows.some(test);
  const exitCode = has(({ differs }) => differs) ? 3 : has(({ verdict }) => verdict === 'denied') ? 1 : 0;
  return { text: `${lines.join('\n')}\n`, exitCode };
}

function sideText({ direction, pod, verdict, reason, policies, allowing }: SideAnswer): string {
  const names =
    allowing.length > 0 ? `: ${allowing.join(', ')}` : policies.length > 0 ? `: ${policies.join(', ')}` : '';
  return `  ${direction}${pod === undefined ? '' : ` of ${pod}`}: ${verdict}, ${reason}${names}`;
}

/** "12:00:00.000 x/a (10.1.1.1) to y/b (10.1.2.2), 80/tcp: ingress of y/b, isolated by y/deny" */
export function printTraced({ at, from, to, port, protocol, direction, isReply, policies }: TraceLine): string {
  const named = ({ pod, address }: TraceLine['from']) => (pod === undefined ? address : `${pod} (${address})`);
  const own = direction === 'ingress' ? to : from;
  const what = port === undefined ? `protocol ${protocol}` : `${port}/${String(protocol).toLowerCase()}`;
  const answer = isReply ? ' (an answer)' : '';
  const by = policies.length === 0 ? 'which the policy source does not know' : `isolated by ${policies.join(', ')}`;
  return `${at} ${named(from)} to ${named(to)}, ${what}${answer}: ${direction} of ${own.pod ?? own.address}, ${by}\n`;
}

/** The error of an answer that is none. */
export const refused = (text: string): NetError => new NetError('agent-refused', text.trim());
