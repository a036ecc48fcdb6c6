// What flags and variables say about Kubernetes.

import t from 'tap';
import { parseArguments } from '../../../flanneld/config.ts';

const POD = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443', NODE_NAME: 'n1' };

function kube(flags: readonly string[] = [], env: Record<string, string> = POD) {
  const invocation = parseArguments(['--kube-subnet-mgr', ...flags], env);
  return invocation.command === 'run' ? invocation.config.kube : undefined;
}

t.test('in a pod nothing has to be said', async (t) => {
  const directory = '/var/run/secrets/kubernetes.io/serviceaccount';
  t.strictSame(kube(), {
    access: {
      server: 'https://10.96.0.1',
      kubeconfig: undefined,
      serviceAccount: { token: `${directory}/token`, authority: `${directory}/ca.crt` },
    },
    node: { node: 'n1' },
    annotationPrefix: 'flannel.alpha.coreos.com/',
    networkConfig: '/etc/kube-flannel/net-conf.json',
    clearUnavailable: true,
  });
  t.strictSame(
    kube(),
    (parseArguments(['--subnet-mgr=kube'], POD) as never as { config: { kube: unknown } }).config.kube,
  );
  t.equal(kube([], { ...POD, KUBERNETES_SERVICE_HOST: 'fd00::1' })?.access.server, 'https://[fd00::1]');
  t.strictSame(kube([], { ...POD, NODE_NAME: '', POD_NAME: 'p', POD_NAMESPACE: 's' })?.node, {
    namespace: 's',
    pod: 'p',
  });
});

t.test('outside of one', async (t) => {
  const env = { NODE_NAME: 'n1' };
  t.strictSame(kube(['--kubeconfig-file=/k'], env)?.access, {
    server: undefined,
    kubeconfig: '/k',
    serviceAccount: undefined,
  });
  t.equal(kube(['--kubeconfig-file=/k', '--kube-api-url=https://a:6443/'], POD)?.access.server, 'https://a:6443');
  t.equal(kube(['--kube-api-url=127.0.0.1:8080'], POD)?.access.server, 'http://127.0.0.1:8080');
});

t.test('the prefix of annotations is flannel’s rule', async (t) => {
  const prefix = (text: string) => kube([`--kube-annotation-prefix=${text}`])?.annotationPrefix;
  t.equal(prefix('flannel.example.com'), 'flannel.example.com/');
  t.equal(prefix('flannel.example.com/'), 'flannel.example.com/');
  t.equal(prefix('flannel.example.com/one'), 'flannel.example.com/one-');
  t.equal(prefix('flannel.example.com/one-'), 'flannel.example.com/one-');
  for (const wrong of ['flannel', 'a.b/c/d', 'a b.c', 'A.B', '', 'a.b/C'])
    t.throws(() => prefix(wrong), { code: 'invalid-flag', message: /^--kube-annotation-prefix / }, wrong);
});

t.test('mistakes are named', async (t) => {
  const wrong: readonly (readonly [string[], Record<string, string>, RegExp])[] = [
    [[], { NODE_NAME: 'n1' }, /^--kube-subnet-mgr: expected --kubeconfig-file or --kube-api-url outside of a pod/],
    [[], { ...POD, NODE_NAME: '' }, /^NODE_NAME: expected the name of this node, or POD_NAME and POD_NAMESPACE/],
    [[], { ...POD, NODE_NAME: '../x' }, /^NODE_NAME "\.\.\/x": expected a name of Kubernetes/],
    [[], { ...POD, NODE_NAME: '', POD_NAME: 'p' }, /^NODE_NAME/],
    [['--kubeconfig-file=k'], POD, /^--kubeconfig-file "k": expected an absolute path/],
    [['--kube-api-url=ftp://x'], POD, /^--kube-api-url "ftp:\/\/x": expected http/],
  ];
  for (const [flags, env, message] of wrong) t.throws(() => kube(flags, env), { code: 'invalid-flag', message });
});

t.test('commands that reach no server need none of it', async (t) => {
  for (const command of ['status', 'cleanup'])
    t.doesNotThrow(() => parseArguments([command, '--kube-subnet-mgr'], {}), command);
  t.doesNotThrow(() => parseArguments(['--kube-subnet-mgr', '--cni-only'], {}));
});
