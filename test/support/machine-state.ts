// What a test may leave behind on the machine: namespaces, links, nftables rules and processes. Counters, indexes and
// states that change by themselves are left out.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Every thing that is there, as one line each. */
export type MachineState = ReadonlySet<string>;

function lines(kind: string, command: string, ...args: string[]): string[] {
  const text = execFileSync(command, args, { encoding: 'utf8', maxBuffer: 2 ** 28 });
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => `${kind} ${line.trimEnd()}`);
}

interface NetLink {
  readonly ifname: string;
  readonly linkinfo?: { readonly info_kind?: string };
}

function links(): string[] {
  const found: NetLink[] = JSON.parse(execFileSync('ip', ['-details', '-json', 'link', 'show'], { encoding: 'utf8' }));
  return found.map(({ ifname, linkinfo }) => `link ${ifname} ${linkinfo?.info_kind ?? ''}`.trimEnd());
}

/** nft's rules, each with its table and chain, so that equal rules in two places are two things. */
function rules(): string[] {
  const open: string[] = [];
  const found: string[] = [];
  for (const line of lines('', 'nft', '--stateless', 'list', 'ruleset').map((text) => text.trim())) {
    if (line === '}') open.pop();
    else found.push(['nft', ...open, line].join(' '));
    if (line.endsWith('{')) open.push(line.slice(0, -1).trim());
  }
  return found;
}

/** A file of /proc, or nothing for a process that has ended meanwhile or that nobody may look into. */
function peek(read: () => string): string {
  try {
    return read();
  } catch {
    return '';
  }
}

interface Process {
  readonly pid: number;
  /** Differs from an earlier process with the same pid. */
  readonly started: string;
  readonly command: string;
  readonly marked: boolean;
  /** Runs in another network namespace, and what had started it is gone. */
  readonly abandoned: boolean;
}

function processes(mark: string): Process[] {
  const home = readlinkSync('/proc/self/ns/net');
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const stat = peek(() => readFileSync(`/proc/${name}/stat`, 'utf8'));
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const command = peek(() => readFileSync(`/proc/${name}/cmdline`, 'utf8'))
        .replaceAll('\0', ' ')
        .trim();
      if (command === '' || fields[0] === 'Z') return [];
      const namespace = peek(() => readlinkSync(`/proc/${name}/ns/net`));
      return {
        pid: Number(name),
        started: fields[19] ?? '',
        command,
        marked: peek(() => readFileSync(`/proc/${name}/environ`, 'utf8')).includes(mark),
        abandoned: fields[1] === '1' && namespace !== '' && namespace !== home,
      };
    });
}

/** The mark is in the environment of all that a test starts, but for programs that it runs with an environment of theirs. */
const suspects = (mark: string): Process[] => processes(mark).filter(({ marked, abandoned }) => marked || abandoned);

export function machineState(mark: string): MachineState {
  return new Set([
    ...lines('netns', 'ip', 'netns', 'list').map((line) => line.replace(/ \(id: \d+\)$/, '')),
    ...links(),
    ...rules(),
    ...suspects(mark).map(({ pid, started, command }) => `process ${pid} (started ${started}) ${command}`),
  ]);
}

/** One line for each difference. A process that was there before may end when it likes. */
export function differences(before: MachineState, after: MachineState): string[] {
  const gone = [...before].filter((line) => !after.has(line) && !line.startsWith('process '));
  const left = [...after].filter((line) => !before.has(line));
  return [...left.map((line) => `left behind: ${line}`), ...gone.map((line) => `gone: ${line}`)];
}

/** Ends what a test file has started and left. */
export function endMarked(mark: string): void {
  for (const { pid, marked } of processes(mark)) {
    if (!marked) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
}
