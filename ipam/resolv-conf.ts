// The part of a resolv.conf(5) file that a CNI result carries.

import type { Dns } from '../model/cni.ts';

/**
 * Nameservers, search domains and options of all lines, the last domain. A line that says nothing is passed over, as
 * resolvers do; keys without a value are absent.
 */
export function parseResolvConf(text: string): Dns {
  const lines = text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([keyword = '']) => !keyword.startsWith('#') && !keyword.startsWith(';'));
  const values = (keyword: string) => lines.filter(([first]) => first === keyword).map(([, ...rest]) => rest);
  const nameservers = values('nameserver').flatMap(([first]) => first ?? []);
  const domain = values('domain')
    .flatMap(([first]) => first ?? [])
    .at(-1);
  const search = values('search').flat();
  const options = values('options').flat();
  return {
    ...(nameservers.length > 0 && { nameservers }),
    ...(domain !== undefined && { domain }),
    ...(search.length > 0 && { search }),
    ...(options.length > 0 && { options }),
  };
}
