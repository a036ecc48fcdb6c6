// What a test may leave behind: namespaces, links, nftables rules, processes and temporary files. Counters, indexes and
// states that change by themselves are left out.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';

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

/** A file of /proc, or nothing for a process that has ended meanwhile. */
function peek(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** All but this one and what has ended and waits for its parent. */
function processes(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      const stat = peek(`/proc/${name}/stat`);
      const [state] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const command = peek(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trim();
      return command === '' || state === 'Z' ? [] : [`process ${name} ${command}`];
    });
}

/** Of the namespaces of the calling process. */
export function machineState(): MachineState {
  return new Set([
    ...lines('netns', 'ip', 'netns', 'list').map((line) => line.replace(/ \(id: \d+\)$/, '')),
    ...links(),
    ...rules(),
    ...readdirSync(tmpdir()).map((name) => `file ${tmpdir()}/${name}`),
    ...processes(),
  ]);
}

/** One line for each difference. A process that was there before may end when it likes. */
export function differences(before: MachineState, after: MachineState): string[] {
  const gone = [...before].filter((line) => !after.has(line) && !line.startsWith('process '));
  const left = [...after].filter((line) => !before.has(line));
  return [...left.map((line) => `left behind: ${line}`), ...gone.map((line) => `gone: ${line}`)];
}
