// The certificate files, read again for every connection, so that certificates replaced on disk are taken up.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { getCACertificates } from 'node:tls';
import { NetError } from '../../model/errors.ts';
import type { EtcdTlsFiles } from './etcd-options.ts';

/** PEM texts. */
export interface TlsMaterial {
  readonly authority: Buffer;
  readonly certificate: Buffer | undefined;
  readonly key: Buffer | undefined;
}

const NO_FILES: EtcdTlsFiles = { authority: undefined, certificate: undefined, key: undefined };

/**
 * Without files, the authorities that the system trusts.
 * @throws NetError file-unreadable naming flag and file: it can't be read or isn't what its flag says
 */
export function readTls(files: EtcdTlsFiles = NO_FILES): TlsMaterial {
  const certificate = pem('--etcd-certfile', files.certificate, 'a certificate', (text) => new X509Certificate(text));
  const key = pem('--etcd-keyfile', files.key, 'a private key', createPrivateKey);
  if (
    certificate !== undefined &&
    key !== undefined &&
    !new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key))
  ) {
    throw unfit('--etcd-keyfile', files.key as string, `not the key of ${files.certificate}`);
  }
  const authority = pem('--etcd-cafile', files.authority, 'a certificate', (text) => new X509Certificate(text));
  return { authority: authority ?? Buffer.from(getCACertificates('system').join('\n')), certificate, key };
}

function pem(
  flag: string,
  path: string | undefined,
  what: string,
  parse: (text: Buffer) => unknown,
): Buffer | undefined {
  if (path === undefined) return undefined;
  const text = readPem(flag, path);
  try {
    parse(text);
    return text;
  } catch (cause) {
    throw unfit(flag, path, `not ${what} in PEM form`, cause);
  }
}

function readPem(flag: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code: errno = 'unreadable' } = error as NodeJS.ErrnoException;
    throw new NetError('file-unreadable', `${flag} ${path}: ${errno}`, { errno, subject: path });
  }
}

const unfit = (flag: string, path: string, why: string, cause?: unknown) =>
  new NetError('file-unreadable', `${flag} ${path}: ${why}`, { subject: path, cause });
