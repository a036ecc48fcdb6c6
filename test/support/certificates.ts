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

/** The server's is valid for these addresses. */
export function makeCertificates(addresses: readonly string[] = ['127.0.0.1']): TestCertificates {
  const directory = mkdtempSync(join(tmpdir(), 'flannel-certificates-'));
  const authority = join(directory, 'ca.pem');
  const authorityKey = join(directory, 'ca-key.pem');
  openssl(
    'req',
    '-x509',
    ...KEY,
    '-keyout',
    authorityKey,
    '-out',
    authority,
    '-days',
    '1',
    '-subj',
    '/CN=test authority',
  );

  function issue(name: string, usage: string): KeyPair {
    const [certificate, key, request, extensions] = ['.pem', '-key.pem', '.csr', '.ext'].map((end) =>
      join(directory, name + end),
    ) as [string, string, string, string];
    const names = addresses.map((address) => `IP:${address}`).join();
    writeFileSync(extensions, `subjectAltName=${names}\nextendedKeyUsage=${usage}\n`);
    openssl('req', ...KEY, '-keyout', key, '-out', request, '-subj', `/CN=${name}`);
    openssl(
      'x509',
      '-req',
      '-in',
      request,
      '-CA',
      authority,
      '-CAkey',
      authorityKey,
      '-CAcreateserial',
      '-out',
      certificate,
      '-days',
      '1',
      '-extfile',
      extensions,
    );
    return { certificate, key };
  }

  return {
    directory,
    authority,
    // etcd's gateway talks to the server with the server's certificate.
    server: issue('server', 'serverAuth,clientAuth'),
    client: issue('client', 'clientAuth'),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}
