// The C client, built with sanitizers, against environments, inputs and answers of an agent that are changed at random.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { encode } from '../../cni-plugin/wire.ts';
import { clientHost, compileSanitized, testAgent } from '../support/cni-client.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { count } from '../support/count.ts';
import { below, random, seed } from '../support/seed.ts';

function putPlugin(directory: string): void {
  writeFileSync(join(directory, 'other'), '#!/bin/sh\ncat\nexit 3\n');
  chmodSync(join(directory, 'other'), 0o755);
}

t.test('inside one process', async (t) => {
  const program = compileSanitized(t, join(import.meta.dirname, '../fuzz/client-fuzz.c'));
  const plugins = temporaryDirectory(t);
  putPlugin(plugins);
  const rounds = count(100_000);
  const ended = spawnSync(program, [String(seed), String(rounds), plugins], {
    encoding: 'utf8',
    // What setenv(3) loses is glibc's, and a thread of the sanitizer would be lost by fork(2).
    env: { ASAN_OPTIONS: 'detect_leaks=0' },
  });
  t.equal(ended.stderr, `${rounds} rounds\n`);
  t.strictSame([ended.status, ended.signal], [0, null]);
});

t.test('whatever comes through the socket, the client ends with an answer', async (t) => {
  const host = clientHost(t);
  const program = compileSanitized(t);
  mkdirSync(join(host.lib, 'plugins'));
  putPlugin(join(host.lib, 'plugins'));
  const next = random('client-fuzz');
  const pick = <T>(...items: readonly T[]): T => items[below(items.length, next)] as T;
  const bytes = (most: number): Buffer =>
    Buffer.from(Array.from({ length: below(most, next) }, () => below(256, next)));
  const text = (most: number): string => bytes(most).toString('latin1').replaceAll('\0', ' ');
  const mutated = (message: Buffer): Buffer => {
    let found = message;
    for (let mutations = below(4, next); mutations > 0; mutations--) {
      const at = below(found.length + 1, next);
      found = Buffer.concat([found.subarray(0, at), bytes(4), found.subarray(at + below(4, next))]);
    }
    return found;
  };
  const result = () => encode({ kind: 'result', status: pick(0, 1, 255), output: text(5000), errors: text(50) });
  const order = () => {
    const plugin = pick('other', 'other', 'missing', 'x/y', text(300));
    return encode({ kind: 'execute', plugin, environment: { CNI_ARGS: text(20) }, input: text(5000) });
  };
  await testAgent(t, host.socket, ({ send, drop }) => {
    send(mutated(Buffer.concat([...Array.from({ length: below(3, next) }, order), result()])));
    // Not at once: a plugin may still have to answer.
    setTimeout(drop, 30);
  });
  for (let round = 0; round < count(2000); round++) {
    const env = { CNI_PATH: '/var/lib/plugins', CNI_ARGS: text(200), CNI_CONTAINERID: text(pick(10, 50_000)) };
    const ended = await host.call(program, pick('ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'NOPE'), {
      env: { ...env, ASAN_OPTIONS: 'detect_leaks=0:exitcode=99' },
      input: bytes(5000),
    });
    if (ended.signal !== null || ended.status === 99 || /Sanitizer|runtime error/.test(ended.errors)) {
      t.fail(`round ${round}: ${ended.signal ?? ended.status}`, { errors: ended.errors });
      break;
    }
    if (ended.status === 1 && ended.output.startsWith('{"cniVersion"')) JSON.parse(ended.output);
  }
});
