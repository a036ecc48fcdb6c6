// The versions of the CNI specification. Each has its own result format; 0.3.1 only corrects a misprint in 0.3.0.

import { NetError } from '../model/errors.ts';

/** Every released version, oldest first; all are supported. */
export const VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export type CniVersion = (typeof VERSIONS)[number];

/** The newest version, used where no configuration names one. */
export const LATEST: CniVersion = '1.1.0';

/** Whether the version is `since` or later. */
export const atLeast = (version: CniVersion, since: CniVersion): boolean =>
  VERSIONS.indexOf(version) >= VERSIONS.indexOf(since);

/**
 * The configuration's version; empty means 0.1.0, which had no such key (libcni does the same).
 * @throws NetError decoding for text that is no version, incompatible-version for one that isn't supported
 */
export function cniVersion(text: string): CniVersion {
  if (text === '') return '0.1.0';
  const known = VERSIONS.find((version) => version === text);
  if (known !== undefined) return known;
  const shown = JSON.stringify(text.slice(0, 64));
  if (!/^\d+(\.\d+){0,2}$/.test(text)) throw new NetError('decoding', `cniVersion ${shown} is not a version`);
  const supported = VERSIONS.map((version) => `"${version}"`).join(' ');
  throw new NetError('incompatible-version', 'incompatible CNI versions', {
    details: `config is ${shown}, plugin supports [${supported}]`,
  });
}
