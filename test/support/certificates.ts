// An authority with a server's and a client's certificate for tests, made by openssl: valid for a day.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

/** Paths of PEM files. */
export interface TestCertificates {
  readonly directory: string;
  readonly authority: string;
  readonly server: KeyPair;
  readonly client: KeyPair;
  remove(): void;
}

const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' });
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export interface TestAuthority {
  readonly directory: string;
  /** Path of its certificate and of its key. */
  readonly authority: string;
  readonly authorityKey: string;
  /** A certificate by it. `subject`: "/O=group/CN=name". `names`: "IP:127.0.0.1,DNS:localhost". */
  issue(name: string, facts: { readonly subject: string; readonly usage: string; readonly names?: string }): KeyPair;
  remove(): void;
}

/** An authority of its own, good for a day. */
export function makeAuthority(): TestAuthority {
  const directory = mkdtempSync(join(tmpdir(), 'flannel-certificates-'));
  const path = (name: string) => join(directory, name);
  const [authority, authorityKey] = [path('ca.pem'), path('ca-key.pem')];
  const own = ['-x509', ...KEY, '-keyout', authorityKey, '-out', authority, '-days', '1'];
  openssl('req', ...own, '-subj', '/CN=test authority');
  return {
    directory,
    authority,
    authorityKey,
    issue(name, { subject, usage, names = 'IP:127.0.0.1' }) {
      const [certificate, key] = [path(`${name}.pem`), path(`${name}-key.pem`)];
      const [request, extensions] = [path(`${name}.csr`), path(`${name}.ext`)];
      writeFileSync(extensions, `subjectAltName=${names}\nextendedKeyUsage=${usage}\n`);
      openssl('req', ...KEY, '-keyout', key, '-out', request, '-subj', subject);
      const by = ['-CA', authority, '-CAkey', authorityKey, '-CAcreateserial'];
      openssl('x509', '-req', '-in', request, ...by, '-out', certificate, '-days', '1', '-extfile', extensions);
      return { certificate, key };
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** The server's is valid for these addresses. */
export function makeCertificates(addresses: readonly string[] = ['127.0.0.1']): TestCertificates {
  const names = addresses.map((address) => `IP:${address}`).join(',');
  const authority = makeAuthority();
  return {
    directory: authority.directory,
    authority: authority.authority,
    // etcd's gateway talks to the server with the server's certificate.
    server: authority.issue('server', { subject: '/CN=server', usage: 'serverAuth,clientAuth', names }),
    client: authority.issue('client', { subject: '/CN=client', usage: 'clientAuth' }),
    remove: authority.remove,
  };
}
