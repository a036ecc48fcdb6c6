// What keeps a subnet manager out of etcd: endpoints that nobody answers on, certificates, users; and what a running
// one goes on through, as certificates and tokens are replaced.

import { copyFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { EtcdConfig } from '../../flanneld/subnet/etcd-options.ts';
import { openEtcd } from '../../flanneld/subnet/etcd.ts';
import { describe, NetError } from '../../model/errors.ts';
import { requestOf } from '../compliance/subnet-manager.ts';
import { makeCertificates, type TestCertificates } from '../support/certificates.ts';
import { startEtcd } from '../support/etcd.ts';
import { ALWAYS, configOf, managersOn, NETWORK } from '../support/etcd-managers.ts';

const server = await startEtcd();
t.teardown(() => server.remove());

/** The code and line of networkConfig's error, and how long it took. */
async function refusalOf(
  t: Test,
  { endpoints = [], ...more }: Partial<EtcdConfig>,
): Promise<{ code: string; line: string; ms: number }> {
  const manager = managersOn(t, configOf(endpoints, more)).open('a');
  const began = Date.now();
  try {
    await manager.networkConfig(ALWAYS);
    return { code: 'none', line: '', ms: Date.now() - began };
  } catch (error) {
    if (!(error instanceof NetError)) throw error;
    return { code: error.code, line: describe(error), ms: Date.now() - began };
  }
}

t.test('what etcd refuses and what can’t be reached', async (t) => {
  const nowhere = 'http://127.0.0.1:1';
  t.match(await refusalOf(t, { endpoints: [nowhere] }), {
    code: 'etcd-unreachable',
    line: `etcd ${nowhere}: ECONNREFUSED`,
  });
  const name = 'http://no-such-host.invalid:2379';
  t.match(await refusalOf(t, { endpoints: [name] }), {
    code: 'etcd-unreachable',
    line: new RegExp(`^etcd ${name}: E`),
  });
  const both = await refusalOf(t, { endpoints: [nowhere, server.endpoint] });
  t.match(
    both,
    { code: 'no-network-config', line: new RegExp(`${server.endpoint}: there is no key /test-\\d+/config$`) },
    'the next endpoint',
  );

  const certificates = makeCertificates();
  const others = makeCertificates();
  const secure = await startEtcd({ tls: certificates });
  t.teardown(async () => {
    await secure.remove();
    certificates.remove();
    others.remove();
  });
  const { authority, client } = certificates;
  const endpoints = [secure.endpoint];
  const good = { authority, ...client };
  t.match(await refusalOf(t, { endpoints, tls: good }), { code: 'no-network-config' }, 'the right certificate');
  const wrong: readonly (readonly [string, EtcdConfig['tls'], RegExp])[] = [
    ['no client certificate', { authority, certificate: undefined, key: undefined }, /CERTIFICATE/],
    ['a client certificate of another authority', { authority, ...others.client }, /CERTIFICATE/],
    ['a server certificate of another authority', { authority: others.authority, ...client }, /VERIFY/],
  ];
  for (const [what, tls, line] of wrong) {
    const refusal = await refusalOf(t, { endpoints, tls });
    t.match(refusal, { code: 'etcd-refused', line }, what);
    t.ok(refusal.line.includes(secure.endpoint), 'names the endpoint');
  }
  const localhost = secure.endpoint.replace('127.0.0.1', 'localhost');
  t.match(
    await refusalOf(t, { endpoints: [localhost], tls: good }),
    { code: 'etcd-refused', line: /ALTNAME/ },
    'a name it is not for',
  );
  const plain = secure.endpoint.replace('https', 'http');
  t.match(
    await refusalOf(t, { endpoints: [plain] }),
    { code: 'etcd-unreachable', line: new RegExp(plain) },
    'http to an https port',
  );
  t.match(
    await refusalOf(t, { endpoints: [server.endpoint.replace('http', 'https')], tls: good }),
    { code: 'etcd-refused', line: /TLS/ },
    'https to an http port',
  );
});

t.test('a certificate file that is missing or no certificate is named', async (t) => {
  const { authority, client, server: pair, directory, remove } = makeCertificates();
  t.teardown(remove);
  const open = (tls: EtcdConfig['tls']) => () =>
    openEtcd({ etcd: configOf(['https://127.0.0.1:1'], { tls }), nodeId: 'a', renewMarginMinutes: 60 });
  const faults: readonly (readonly [EtcdConfig['tls'], string])[] = [
    [{ authority: '/nope', certificate: undefined, key: undefined }, '--etcd-cafile /nope: ENOENT'],
    [{ authority: directory, certificate: undefined, key: undefined }, `--etcd-cafile ${directory}: EISDIR`],
    [
      { authority: client.key, certificate: undefined, key: undefined },
      `--etcd-cafile ${client.key}: not a certificate in PEM form`,
    ],
    [{ authority, certificate: '/nope', key: client.key }, '--etcd-certfile /nope: ENOENT'],
    [{ authority, certificate: client.certificate, key: '/nope' }, '--etcd-keyfile /nope: ENOENT'],
    [
      { authority, certificate: client.certificate, key: authority },
      `--etcd-keyfile ${authority}: not a private key in PEM form`,
    ],
    [
      { authority, certificate: client.certificate, key: pair.key },
      `--etcd-keyfile ${pair.key}: not the key of ${client.certificate}`,
    ],
  ];
  for (const [tls, message] of faults) t.throws(open(tls), { code: 'file-unreadable', message });
});

t.test('certificates replaced on disk', async (t) => {
  const [old, fresh] = [makeCertificates(), makeCertificates()];
  const first = await startEtcd({ tls: old });
  t.teardown(async () => {
    await first.remove();
    old.remove();
    fresh.remove();
  });
  const tls = { authority: old.authority, ...old.client };
  const { open, following } = managersOn(t, configOf([first.endpoint], { tls }));
  const a = open('a');
  await a.acquire(requestOf(1, NETWORK), ALWAYS);
  const watch = following(a);
  await watch.until('own', ({ own }) => own !== undefined);
  const replaced: (keyof TestCertificates & ('server' | 'client'))[] = ['server', 'client'];
  copyFileSync(fresh.authority, old.authority);
  for (const name of replaced) {
    copyFileSync(fresh[name].certificate, old[name].certificate);
    copyFileSync(fresh[name].key, old[name].key);
  }
  await first.stop();
  await first.start();
  const peer = await open('b').acquire(requestOf(2, NETWORK), ALWAYS);
  t.strictSame((await watch.until('the peer', ({ peers }) => peers.length === 1)).peers, [peer]);
});

t.test('users: refusals are named, tokens that no longer hold renewed', async (t) => {
  const etcd = await startEtcd({ flags: ['--auth-token-ttl=2'] });
  t.teardown(() => etcd.remove());
  const shared = configOf([etcd.endpoint], { user: { name: 'flannel', password: 'right' } });
  t.match(await refusalOf(t, shared), { code: 'no-network-config' }, 'while authentication is off');
  for (const words of [
    'user add root:admin',
    'user add flannel:right',
    'role add flannel',
    `role grant-permission flannel readwrite --prefix=true ${shared.prefix}/`,
    'user grant-role root root',
    'user grant-role flannel flannel',
    'auth enable',
  ]) {
    await etcd.etcdctl(...words.split(' '));
  }
  t.match(await refusalOf(t, shared), { code: 'no-network-config' }, 'right');
  const refused = { endpoints: [etcd.endpoint], prefix: shared.prefix };
  t.match(await refusalOf(t, { ...refused, user: { name: 'flannel', password: 'wrong' } }), {
    code: 'etcd-refused',
    line: /authentication failed/,
  });
  t.match(await refusalOf(t, { ...refused }), { code: 'etcd-refused' }, 'no user');
  t.match(await refusalOf(t, { ...shared, prefix: '/elsewhere' }), { code: 'etcd-refused', line: /permission denied/ });

  const { open, following } = managersOn(t, shared);
  const a = open('a', { times: { renewalMs: 60_000, livenessMs: 60_000 } });
  const lease = await a.acquire(requestOf(1, NETWORK), ALWAYS);
  await sleep(5000);
  await a.publish({ ...lease, backendType: 'udp' }, ALWAYS);
  t.pass('a token that expired is renewed');
  const watch = following(a);
  await watch.until('own', ({ own }) => own?.backendType === 'udp');
  await etcd.etcdctl('--user=root:admin', 'role', 'add', 'other');
  await a.publish({ ...lease, backendType: 'host-gw' }, ALWAYS);
  await watch.until('the change', ({ own }) => own?.backendType === 'host-gw');
  t.pass('roles that changed since the token was given');
  await etcd.stop();
  await etcd.start();
  await a.publish({ ...lease, backendType: 'vxlan' }, ALWAYS);
  await watch.until('the change', ({ own }) => own?.backendType === 'vxlan');
  t.pass('a token that a restarted server does not know');
});
