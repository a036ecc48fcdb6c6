// One asker of UDP questions from one port, which keeps asking, and servers that answer with their name: by the answers
// one sees where a flow leads.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { TestNamespace } from './namespace.ts';

const SERVER = `const [name, port] = process.argv.slice(1);
const socket = require('node:dgram').createSocket({ type: 'udp6' });
socket.on('message', (_, from) => socket.send(name, from.port, from.address));
socket.bind(+port, '::', () => console.log('ready'));`;

const ASKER = `const [to, port] = process.argv.slice(1);
const six = to.includes(':');
const socket = require('node:dgram').createSocket({ type: six ? 'udp6' : 'udp4', ipv6Only: six });
socket.on('message', (text) => console.log(String(text))).on('error', () => {});
socket.bind(40000, () => { setInterval(() => socket.send('who?', +port, to), 50); });`;

function start(t: Test, where: TestNamespace, script: string, args: readonly string[]): ChildProcess {
  const command = [`--net=${where.path}`, process.execPath, '-e', script, ...args];
  const child = spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

/** Starts a server in the namespace that answers every datagram with the name. It ends with the test. */
export async function serveUdp(t: Test, where: TestNamespace, port: number, name: string): Promise<void> {
  await once(start(t, where, SERVER, [name, String(port)]).stdout as NodeJS.ReadableStream, 'data');
}

export interface Asker {
  /** Whether, from now on, answers come from that name within a time; undefined: whether none come. */
  hears(name: string | undefined): Promise<boolean>;
}

const WAIT_MS = 3000;
const SILENCE_MS = 500;
const SETTLE_MS = 100;

/** Starts asking that address, again and again from the same port. */
export function ask(t: Test, from: TestNamespace, to: string, port: number): Asker {
  const answers: string[] = [];
  const asker = start(t, from, ASKER, [to, String(port)]);
  createInterface({ input: asker.stdout as NodeJS.ReadableStream }).on('line', (line) => answers.push(line));
  return {
    async hears(name) {
      // What came while this process was busy has not been read yet.
      await sleep(SETTLE_MS);
      answers.length = 0;
      if (name === undefined) {
        await sleep(SILENCE_MS);
        return answers.length === 0;
      }
      for (let waited = 0; waited < WAIT_MS && answers.at(-1) !== name; waited += 20) await sleep(20);
      return answers.at(-1) === name;
    },
  };
}
