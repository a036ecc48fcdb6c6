// Where the API server is and what lets us in, read anew for every request: tokens and certificates are replaced on disk
// while the agent runs. The library's own KubeConfig would do this, for 88 MB of memory: it brings every type of the API.

import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { ExecAuth } from '@kubernetes/client-node/dist/exec_auth.js';
import { NetError } from '../../model/errors.ts';
import { type ChosenContext, chooseContext } from './kubeconfig.ts';
import type { KubeAccessConfig } from './options.ts';

export interface Credentials {
  /** "https://192.0.2.1:6443", without a slash at the end. */
  readonly server: string;
  /** Value of the header Authorization. */
  readonly authorization: string | undefined;
  /** PEM texts, and how the server's certificate is checked. */
  readonly tls: {
    readonly ca?: string | undefined;
    readonly cert?: string | undefined;
    readonly key?: string | undefined;
    readonly servername?: string | undefined;
    readonly rejectUnauthorized?: boolean | undefined;
  };
}

/** Milliseconds that a credential plugin may take. */
const PLUGIN_MS = 30_000;

/** A function that reads them. It throws NetError file-unreadable naming the flag, or kube-refused for a plugin. */
export function credentialsReader({
  server,
  kubeconfig,
  serviceAccount,
}: KubeAccessConfig): () => Promise<Credentials> {
  const plugins = new ExecAuth();
  return async () => {
    if (kubeconfig !== undefined) {
      const context = chooseContext(read('--kubeconfig-file', kubeconfig), kubeconfig);
      return fromContext(context, kubeconfig, server, plugins);
    }
    if (serviceAccount === undefined) return { server: server as string, authorization: undefined, tls: {} };
    return {
      server: server as string,
      authorization: bearer(read('service account', serviceAccount.token)),
      tls: { ca: read('service account', serviceAccount.authority) },
    };
  };
}

const bearer = (token: string): string => `Bearer ${token.trim()}`;

async function fromContext(
  { cluster, user, tokenFile }: ChosenContext,
  kubeconfig: string,
  server: string | undefined,
  plugins: ExecAuth,
): Promise<Credentials> {
  const text = (file: string | undefined, data: string | undefined): string | undefined =>
    data
      ? Buffer.from(data, 'base64').toString()
      : file && read('--kubeconfig-file', resolve(dirname(kubeconfig), file));
  const plugin = plugins.isAuthProvider(user) ? await credentialOf(plugins, user, kubeconfig) : {};
  return {
    server: server ?? cluster.server,
    authorization: plugin.authorization ?? authorizationOf(user, text(tokenFile, undefined)),
    tls: {
      ca: text(cluster.caFile, cluster.caData),
      cert: plugin.cert ?? text(user.certFile, user.certData),
      key: plugin.key ?? text(user.keyFile, user.keyData),
      ...(cluster.tlsServerName ? { servername: cluster.tlsServerName } : {}),
      ...(cluster.skipTLSVerify ? { rejectUnauthorized: false } : {}),
    },
  };
}

function authorizationOf({ token, username, password }: ChosenContext['user'], fromFile?: string): string | undefined {
  if (fromFile !== undefined) return bearer(fromFile);
  if (token) return bearer(token);
  return username ? `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}` : undefined;
}

/** What a credential plugin says (client.authentication.k8s.io ExecCredential). */
async function credentialOf(
  plugins: ExecAuth,
  user: ChosenContext['user'],
  kubeconfig: string,
): Promise<{ authorization?: string; cert?: string; key?: string }> {
  const options: { headers: Record<string, string>; cert?: string; key?: string } = { headers: {} };
  const late = AbortSignal.timeout(PLUGIN_MS);
  try {
    await Promise.race([
      plugins.applyAuthentication(user, options as never),
      new Promise((_, reject) => late.addEventListener('abort', () => reject(late.reason))),
    ]);
  } catch (cause) {
    const message = `--kubeconfig-file ${kubeconfig}: the credential plugin of user ${user.name} failed`;
    throw new NetError('kube-refused', message, { cause, subject: kubeconfig });
  }
  const { headers, cert, key } = options;
  const { Authorization: authorization } = headers;
  return { ...(authorization && { authorization }), ...(cert && { cert }), ...(key && { key }) };
}

function read(flag: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code: errno = 'unreadable' } = error as NodeJS.ErrnoException;
    // A mounted secret or a kubeconfig that another program is replacing comes back.
    throw new NetError('kube-refused', `${flag} ${path}: ${errno}`, { errno, subject: path });
  }
}
