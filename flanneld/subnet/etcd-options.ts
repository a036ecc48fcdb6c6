// What the flags and variables say about etcd. Pure: the files that it names are read later.

import { invalid } from '../arguments.ts';
import type { FlagValues } from '../flags.ts';

export interface EtcdTlsFiles {
  /** Path of the authority's certificates; the system's when undefined. */
  readonly authority: string | undefined;
  /** Paths of our certificate and its key: both or neither. */
  readonly certificate: string | undefined;
  readonly key: string | undefined;
}

export interface EtcdConfig {
  /** "http://host:port" or "https://host:port", in the order given. */
  readonly endpoints: readonly string[];
  /** Key that `/config` and `/subnets/…` are appended to: "/coreos.com/network". */
  readonly prefix: string;
  /** For https endpoints; undefined when no file was named. */
  readonly tls: EtcdTlsFiles | undefined;
  readonly user: { readonly name: string; readonly password: string } | undefined;
}

/** @throws NetError invalid-flag naming the flag and its value */
export function etcdConfig(values: FlagValues): EtcdConfig {
  const prefix = keyPrefix(values['etcd-prefix']);
  const tls = tlsFiles(values);
  const endpoints = values['etcd-endpoints'].map((endpoint) => withScheme(endpoint, tls !== undefined));
  if (tls !== undefined && !endpoints.some((endpoint) => endpoint.startsWith('https:'))) {
    const [flag, file] =
      tls.certificate === undefined ? ['--etcd-cafile', tls.authority] : ['--etcd-certfile', tls.certificate];
    throw invalid(`${flag} ${file}: expected an https:// endpoint with it, got ${endpoints.join(',')}`, flag);
  }
  return { endpoints, prefix, tls, user: etcdUser(values) };
}

/** As Go's path.Join cleans it, so that `${prefix}/config` is flannel's key: "/" becomes "". */
function keyPrefix(given: string): string {
  if (given === '') throw invalid('--etcd-prefix "": expected a key', '--etcd-prefix');
  const cleaned = given.split('/').filter(Boolean).join('/');
  return given.startsWith('/') && cleaned !== '' ? `/${cleaned}` : cleaned;
}

/**
 * flannel speaks plain text, silently, when certificate or key is missing; here that is an error, and a CA alone is
 * enough.
 */
function tlsFiles(values: FlagValues): EtcdTlsFiles | undefined {
  const [authority, certificate, key] = [values['etcd-cafile'], values['etcd-certfile'], values['etcd-keyfile']];
  if (certificate !== '' && key === '')
    throw invalid(`--etcd-certfile ${certificate}: expected --etcd-keyfile with it`, '--etcd-certfile');
  if (key !== '' && certificate === '')
    throw invalid(`--etcd-keyfile ${key}: expected --etcd-certfile with it`, '--etcd-keyfile');
  if (authority === '' && certificate === '') return undefined;
  return { authority: authority || undefined, certificate: certificate || undefined, key: key || undefined };
}

/** flannel takes endpoints without a scheme too: TLS if certificates are given. */
const withScheme = (endpoint: string, tls: boolean): string =>
  endpoint.includes('://') ? endpoint : `${tls ? 'https' : 'http'}://${endpoint}`;

function etcdUser(values: FlagValues): EtcdConfig['user'] {
  const [name, password] = [values['etcd-username'], values['etcd-password']];
  if (name === '' && password !== '')
    throw invalid('--etcd-password: expected --etcd-username with it', '--etcd-password');
  return name === '' ? undefined : { name, password };
}
