// The runtime that the rows of 2b use does what libcni does: seen by plugins that only note what they are given.

import t from 'tap';
import { type Container, type Execute, type NetworkList, PluginError, runtimeOf } from './libcni.ts';
import type { Json, Verb } from './stage.ts';

const POD: Container = { containerId: 'c1', ifname: 'eth0' };
const OTHER: Container = { containerId: 'c2', ifname: 'eth0' };

interface Call {
  readonly verb: Verb;
  readonly type: unknown;
  readonly config: Json;
}

/** Plugins that answer ADD with their name in the result, and fail where they are told to. */
function plugins(fails: (call: Call) => boolean = () => false) {
  const calls: Call[] = [];
  const execute: Execute = async (verb, config) => {
    const call = { verb, type: config.type, config };
    calls.push(call);
    if (fails(call)) return { code: 1, stdout: '{"code":50,"msg":"no"}', stderr: '' };
    const seen = (config.prevResult as { by?: string[] } | undefined)?.by ?? [];
    return { code: 0, stdout: verb === 'ADD' ? JSON.stringify({ by: [...seen, config.type] }) : '', stderr: '' };
  };
  return { calls, execute, verbs: () => calls.map(({ verb, type }) => `${verb} ${type}`) };
}

const list = (keys: Partial<NetworkList> = {}): NetworkList => ({
  cniVersion: '1.1.0',
  name: 'net',
  plugins: [{ type: 'a' }, { type: 'b' }],
  ...keys,
});

t.test('ADD hands each plugin the result of the one before; DEL goes back with the last one', async (t) => {
  const { calls, execute, verbs } = plugins();
  const runtime = runtimeOf(list(), execute);
  t.strictSame(await runtime.add(POD), { by: ['a', 'b'] });
  await runtime.check(POD);
  await runtime.del(POD);
  await runtime.del(POD);
  t.strictSame(verbs(), ['ADD a', 'ADD b', 'CHECK a', 'CHECK b', 'DEL b', 'DEL a', 'DEL b', 'DEL a']);
  const previous = calls.map(({ config }) => (config.prevResult as { by: string[] } | undefined)?.by.join(''));
  t.strictSame(previous, [undefined, 'a', 'ab', 'ab', 'ab', 'ab', undefined, undefined]);
  t.match(calls[0]?.config, { name: 'net', cniVersion: '1.1.0' });
});

t.test('before 0.4.0 there is neither CHECK nor a previous result for DEL', async (t) => {
  const { calls, execute } = plugins();
  const runtime = runtimeOf(list({ cniVersion: '0.3.1' }), execute);
  await runtime.add(POD);
  await t.rejects(runtime.check(POD), /does not support CHECK/);
  await runtime.del(POD);
  t.notOk(calls.some(({ verb, config }) => verb === 'DEL' && config.prevResult !== undefined));
});

t.test('a failed ADD caches nothing', async (t) => {
  const { calls, execute } = plugins(({ verb, type }) => verb === 'ADD' && type === 'b');
  const runtime = runtimeOf(list(), execute);
  await t.rejects(runtime.add(POD), new PluginError('b', 50, 'no'));
  t.strictSame(runtime.cached(), []);
  await t.rejects(runtime.check(POD), /no cached result/);
  await runtime.del(POD);
  t.equal(calls.at(-1)?.config.prevResult, undefined);
});

t.test('CHECK and DEL stop at the first error, and the result stays cached', async (t) => {
  let broken = true;
  const { calls, execute, verbs } = plugins(({ verb, type }) =>
    broken ? (verb === 'CHECK' && type === 'a') || (verb === 'DEL' && type === 'b') : false,
  );
  const runtime = runtimeOf(list(), execute);
  await runtime.add(POD);
  await t.rejects(runtime.check(POD), { code: 50 });
  await t.rejects(runtime.del(POD), { code: 50 });
  t.strictSame(verbs().slice(2), ['CHECK a', 'DEL b']);
  t.strictSame(runtime.cached(), [POD]);
  broken = false;
  await runtime.del(POD);
  t.strictSame(verbs().slice(4), ['DEL b', 'DEL a']);
  t.strictSame(calls.at(-1)?.config.prevResult, { by: ['a', 'b'] });
  t.strictSame(runtime.cached(), []);
});

t.test('capabilities: what is declared and given', async (t) => {
  const { calls, execute } = plugins();
  const capabilities = { mac: true, ips: false, bandwidth: true };
  const runtime = runtimeOf(list({ plugins: [{ type: 'a', capabilities }, { type: 'b' }] }), execute);
  await runtime.add({ ...POD, capabilityArgs: { mac: 'm', ips: ['i'], portMappings: [] } });
  t.strictSame(calls[0]?.config.runtimeConfig, { mac: 'm' });
  t.strictSame(calls[0]?.config.capabilities, capabilities, 'libcni leaves them in');
  t.notOk('runtimeConfig' in (calls[1]?.config ?? {}));
});

t.test('disableCheck and disableGC', async (t) => {
  const { execute, verbs } = plugins();
  const runtime = runtimeOf(list({ disableCheck: true, disableGC: true }), execute);
  await runtime.add(POD);
  await runtime.check(POD);
  await runtime.gc([]);
  t.strictSame(verbs(), ['ADD a', 'ADD b']);
});

t.test('GC: DEL of what is cached and not valid, then GC; all errors at the end', async (t) => {
  const { calls, execute, verbs } = plugins(({ verb, type }) => verb === 'GC' && type === 'a');
  const runtime = runtimeOf(list(), execute);
  await runtime.add(POD);
  await runtime.add(OTHER);
  await t.rejects(runtime.gc([POD]), /plugin a failed: no/);
  t.strictSame(verbs().slice(4), ['DEL b', 'DEL a', 'GC a', 'GC b']);
  const valid = [{ containerID: 'c1', ifname: 'eth0' }];
  t.strictSame(calls.at(-1)?.config['cni.dev/valid-attachments'], valid);
  t.strictSame(runtime.cached(), [POD]);
});

t.test('GC without a list: no key, and no DEL; before 1.1.0 no GC', async (t) => {
  const { calls, execute, verbs } = plugins();
  const runtime = runtimeOf(list(), execute);
  await runtime.add(POD);
  await runtime.gc(undefined);
  t.strictSame(verbs().slice(2), ['GC a', 'GC b']);
  t.notOk('cni.dev/valid-attachments' in (calls.at(-1)?.config ?? {}));
  const old = plugins();
  await runtimeOf(list({ cniVersion: '1.0.0' }), old.execute).gc([]);
  t.strictSame(old.verbs(), []);
});

t.test('STATUS stops at the first error and hands its code on; before 1.1.0 there is none', async (t) => {
  const { execute, verbs } = plugins(({ verb }) => verb === 'STATUS');
  await t.rejects(runtimeOf(list(), execute).status(), { code: 50 });
  t.strictSame(verbs(), ['STATUS a']);
  await runtimeOf(list({ cniVersion: '1.0.0' }), execute).status();
  t.equal(verbs().length, 1);
});
