// A process that reserves and releases addresses as told, for tests that run many at once and kill some. Started with
// its name and the configuration; reads commands from standard input and answers each with a line.
//
//   hold N      reserves for N containers and answers their addresses
//   free        releases them all and answers "done"
//   churn N     reserves and releases N times and answers "done"
//
// While it churns it says where it is by one byte at the start of a file, written by a system call of its own, so that
// it is true whenever the process is killed: "A" from before the first effect of an ADD to after its last, "D" the same
// of a DEL, "-" otherwise. Between ADD and DEL it claims the addresses by a symbolic link to its name each, which is
// created in one step and by one process only.

import { closeSync, openSync, readSync, rmSync, symlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type IpamConfig, type Owner, release, reserve } from '../../ipam/verbs.ts';
import { addressOf, type Ip } from '../../model/ip.ts';

/** What a process is started with, as JSON. */
export interface IpamProcessSetup {
  readonly name: string;
  readonly config: IpamConfig;
  /** File for the byte. */
  readonly progress: string;
  /** Directory for the claims. */
  readonly claims: string;
}

const setup = JSON.parse(process.argv[2] ?? '') as IpamProcessSetup;
const { name, config } = setup;
const progress = openSync(setup.progress, 'w');
const say = (where: 'A' | 'D' | '-'): void => void writeSync(progress, where, 0);
const answer = (line: string): void => void writeSync(1, `${line}\n`);

const ownerOf = (number: number): Owner => ({ containerId: `${name}.${number}`, ifname: 'eth0' });
const add = (owner: Owner): Ip[] => reserve(config, owner).ips.map(({ address }) => addressOf(address));

let held = 0;

function hold(times: number): void {
  const ips = Array.from({ length: times }, () => add(ownerOf(held++)));
  answer(ips.flat().join(' '));
}

function free(): void {
  while (held > 0) release(config, ownerOf(--held));
  answer('done');
}

function churn(times: number): void {
  const owner = ownerOf(0);
  for (let time = 0; time < times; time++) {
    say('A');
    const ips = add(owner);
    say('-');
    for (const ip of ips) symlinkSync(name, join(setup.claims, ip));
    for (const ip of ips) rmSync(join(setup.claims, ip));
    say('D');
    release(config, owner);
    say('-');
  }
  answer('done');
}

/** A line of standard input, waiting for it; undefined at its end. */
function readLine(): string | undefined {
  const byte = Buffer.alloc(1);
  let line = '';
  while (readSync(0, byte) > 0) {
    if (byte[0] === 0x0a) return line;
    line += byte.toString();
  }
  return undefined;
}

answer('ready');
for (let line = readLine(); line !== undefined; line = readLine()) {
  const [command, times] = line.split(' ');
  if (command === 'hold') hold(Number(times));
  else if (command === 'free') free();
  else churn(Number(times));
}
closeSync(progress);
