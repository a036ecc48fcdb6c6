// What lets the agent in, as it stands on disk at the moment of each request.

import { chmodSync, renameSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { credentialsReader } from '../../../flanneld/kube/credentials.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');

interface Parts {
  readonly cluster?: Record<string, unknown>;
  readonly user?: Record<string, unknown>;
}

const config = ({ cluster = {}, user = {} }: Parts) => ({
  apiVersion: 'v1',
  kind: 'Config',
  clusters: [
    { name: 'other', cluster: { server: 'https://192.0.2.9' } },
    { name: 'c', cluster: { server: 'https://192.0.2.1:6443/', ...cluster } },
  ],
  users: [{ name: 'u', user }],
  contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
  'current-context': 'x',
});

function rig(t: Test, server?: string) {
  const directory = t.testdir({});
  const path = `${directory}/kubeconfig`;
  return {
    directory,
    path,
    put: (name: string, text: string) => {
      writeFileSync(`${directory}/.new`, text);
      renameSync(`${directory}/.new`, `${directory}/${name}`);
    },
    read: credentialsReader({ server, kubeconfig: path, serviceAccount: undefined }),
  };
}

t.test('a service account: token and authority are read each time', async (t) => {
  const directory = t.testdir({ token: 'one\n', 'ca.crt': 'CA' });
  const serviceAccount = { token: `${directory}/token`, authority: `${directory}/ca.crt` };
  const read = credentialsReader({ server: 'https://k', kubeconfig: undefined, serviceAccount });
  t.strictSame(await read(), { server: 'https://k', authorization: 'Bearer one', tls: { ca: 'CA' } });
  writeFileSync(serviceAccount.token, 'two');
  t.equal((await read()).authorization, 'Bearer two');
  const gone = credentialsReader({
    server: 'https://k',
    kubeconfig: undefined,
    serviceAccount: { ...serviceAccount, token: '/none' },
  });
  await t.rejects(gone(), { code: 'kube-refused', errno: 'ENOENT', transient: true });
});

t.test('a kubeconfig: data, files beside it, a token, a name and password', async (t) => {
  const { put, read } = rig(t);
  put(
    'kubeconfig',
    JSON.stringify(
      config({
        cluster: { 'certificate-authority-data': base64('CA'), 'tls-server-name': 'k' },
        user: { 'client-certificate': 'c.pem', 'client-key-data': base64('KEY') },
      }),
    ),
  );
  put('c.pem', 'CERT');
  t.strictSame(await read(), {
    server: 'https://192.0.2.1:6443',
    authorization: undefined,
    tls: { ca: 'CA', cert: 'CERT', key: 'KEY', servername: 'k' },
  });
  put('c.pem', 'RENEWED');
  t.equal((await read()).tls.cert, 'RENEWED');
  put('kubeconfig', JSON.stringify(config({ cluster: { 'insecure-skip-tls-verify': true }, user: { token: 'abc' } })));
  t.match(await read(), { authorization: 'Bearer abc', tls: { rejectUnauthorized: false } });
  put('kubeconfig', JSON.stringify(config({ user: { tokenFile: 'token', token: 'not this' } })));
  put('token', 'from a file\n');
  t.equal((await read()).authorization, 'Bearer from a file');
  put('kubeconfig', JSON.stringify(config({ user: { username: 'u', password: 'p' } })));
  t.equal((await read()).authorization, `Basic ${base64('u:p')}`);
});

t.test('another server than the kubeconfig’s', async (t) => {
  const { put, read } = rig(t, 'https://198.51.100.1');
  put('kubeconfig', JSON.stringify(config({})));
  t.equal((await read()).server, 'https://198.51.100.1');
});

t.test('a credential plugin', async (t) => {
  const { directory, put, read } = rig(t);
  const answer = { kind: 'ExecCredential', status: { token: 'by plugin' } };
  put('plugin', `#!/bin/sh\necho '${JSON.stringify(answer)}'\n`);
  chmodSync(`${directory}/plugin`, 0o755);
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: `${directory}/plugin` };
  put('kubeconfig', JSON.stringify(config({ user: { exec } })));
  t.equal((await read()).authorization, 'Bearer by plugin');
  const failing = rig(t);
  failing.put('kubeconfig', JSON.stringify(config({ user: { exec: { ...exec, command: '/bin/false' } } })));
  await t.rejects(failing.read(), { code: 'kube-refused', message: /credential plugin of user u failed/ });
});

t.test('what can’t be followed is named', async (t) => {
  const good = config({});
  const wrong: readonly (readonly [unknown, RegExp])[] = [
    ['{', /kubeconfig: /],
    [[], /expected an object/],
    [{ ...good, 'current-context': undefined }, /current-context: expected the name of a context/],
    [{ ...good, 'current-context': 'y' }, /there is no context "y"/],
    [{ ...good, users: [] }, /there is no user "u"/],
    [{ ...good, clusters: [{ name: 'c', cluster: {} }] }, /clusters\[0\]\.cluster\.server is missing/],
    [config({ cluster: { 'proxy-url': 'http://p' } }), /clusters c: proxy-url is not supported/],
    [config({ user: { 'auth-provider': { name: 'oidc' } } }), /users u: auth-provider is not supported/],
    [config({ user: { as: 'x' } }), /users u: as is not supported/],
  ];
  for (const [value, message] of wrong) {
    const { put, read } = rig(t);
    put('kubeconfig', typeof value === 'string' ? value : JSON.stringify(value));
    await t.rejects(read(), { code: 'file-unreadable', message }, String(message));
  }
});
