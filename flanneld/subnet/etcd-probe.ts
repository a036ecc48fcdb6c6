// Why an endpoint doesn't answer. gRPC has one code, UNAVAILABLE, for a refused connection, a name that doesn't resolve
// and a certificate that one side rejects; TCP and TLS have a code for each.

import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { EndpointAccess } from './etcd-connection.ts';

const PROBE_MS = 2000;
/** A server that wants another client certificate says so only after the handshake (TLS 1.3). */
const ALERT_MS = 300;

export interface Finding {
  /** ECONNREFUSED, ENOTFOUND, ETIMEDOUT …, or TLS's: CERT_HAS_EXPIRED, ERR_TLS_CERT_ALTNAME_INVALID … */
  readonly code: string;
  /** One of the two sides rejected the other. */
  readonly refused: boolean;
}

/** What a fresh connection meets; undefined when there is nothing wrong with it. */
export function probe(access: Pick<EndpointAccess, 'endpoint' | 'tls'>): Promise<Finding | undefined> {
  return new Promise((resolve) => {
    const socket = dial(access);
    const finish = (finding: Finding | undefined) => {
      clearTimeout(timer);
      socket.removeAllListeners().on('error', () => {});
      socket.destroy();
      resolve(finding);
    };
    let timer = setTimeout(() => finish({ code: 'ETIMEDOUT', refused: false }), PROBE_MS);
    socket.on('error', (error: NodeJS.ErrnoException) => finish(findingOf(error)));
    socket.once(access.tls === undefined ? 'connect' : 'secureConnect', () => {
      clearTimeout(timer);
      timer = setTimeout(() => finish(undefined), access.tls === undefined ? 0 : ALERT_MS);
    });
  });
}

/** A system call failed: not reached. Anything else comes from TLS: reached, and rejected. */
const findingOf = ({ code = 'unknown', syscall }: NodeJS.ErrnoException): Finding => ({
  code,
  refused: syscall === undefined,
});

function dial({ endpoint, tls }: Pick<EndpointAccess, 'endpoint' | 'tls'>): Socket {
  const { hostname, port, protocol } = new URL(endpoint);
  const to = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || (protocol === 'https:' ? 443 : 80) };
  if (tls === undefined) return connectTcp(to);
  return connectTls({ ...to, ca: tls.authority, cert: tls.certificate, key: tls.key, ALPNProtocols: ['h2'] });
}
