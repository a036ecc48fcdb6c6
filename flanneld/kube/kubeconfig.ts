// A kubeconfig's text as the one cluster and user that it means. What can't be followed (a proxy, an identity provider)
// is refused by name, not passed over. Pure.

import {
  type Cluster,
  newClusters,
  newContexts,
  newUsers,
  type User,
} from '@kubernetes/client-node/dist/config_types.js';
import { parse } from 'yaml';
import { isObject } from '../../model/check.ts';
import { NetError } from '../../model/errors.ts';

export interface ChosenContext {
  readonly cluster: Cluster;
  readonly user: User;
  /** Path of a file that the token is in. */
  readonly tokenFile: string | undefined;
}

/** @throws NetError file-unreadable naming `path` and the key */
export function chooseContext(text: string, path: string): ChosenContext {
  const fail = (problem: string): never => {
    throw new NetError('file-unreadable', `--kubeconfig-file ${path}: ${problem}`, { subject: path });
  };
  const fields = decoded(text, fail);
  const named = <T extends { readonly name: string }>(kind: string, items: readonly T[], name: string): T =>
    items.find((item) => item.name === name) ?? fail(`there is no ${kind} ${JSON.stringify(name)}`);
  const current = fields['current-context'];
  if (typeof current !== 'string' || current === '') fail('current-context: expected the name of a context');
  const context = named(
    'context',
    guarded(() => newContexts(fields.contexts), fail),
    String(current),
  );
  const cluster = named(
    'cluster',
    guarded(() => newClusters(fields.clusters), fail),
    context.cluster,
  );
  // The library reads token-file, which no kubeconfig has, and at once: ours is read again whenever it is used.
  const user = named(
    'user',
    guarded(() => newUsers(fields.users), fail),
    context.user,
  );
  const unsupported = [
    ...(cluster.proxyUrl ? [`clusters ${cluster.name}: proxy-url`] : []),
    ...(user.authProvider ? [`users ${user.name}: auth-provider`] : []),
    ...(user.impersonateUser ? [`users ${user.name}: as`] : []),
  ];
  if (unsupported[0] !== undefined) fail(`${unsupported[0]} is not supported`);
  return { cluster, user, tokenFile: tokenFileOf(fields.users, user.name) };
}

type Fail = (problem: string) => never;

function decoded(text: string, fail: Fail): Record<string, unknown> {
  const value = guarded(() => parse(text), fail);
  return isObject(value) ? value : fail('expected an object');
}

/** The library's errors name the key that is missing. */
function guarded<T>(read: () => T, fail: Fail): T {
  try {
    return read();
  } catch (error) {
    return fail((error as Error).message.split('\n')[0] as string);
  }
}

function tokenFileOf(users: unknown, name: string): string | undefined {
  const entry = Array.isArray(users) ? users.find((item) => isObject(item) && item.name === name) : undefined;
  const file = isObject(entry) && isObject(entry.user) ? entry.user.tokenFile : undefined;
  return typeof file === 'string' && file !== '' ? file : undefined;
}
