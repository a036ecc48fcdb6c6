// The file in which flannel's own plugin keeps what it told its delegate, `<dataDir>/<container id>`: for pods that were
// attached by it before a node changed over.

import { join } from 'node:path';
import { readRegular, removeIfThere } from '../kernel/files.ts';
import { isObject } from '../model/check.ts';
import { type ForeignPlugin, foreignIpam } from './foreign.ts';
import { BRIDGE } from './form.ts';
import { MAX_INPUT_BYTES, type Request } from './protocol.ts';

export interface FlannelFile {
  /** Whom DEL has to be told what the file says; undefined when the attachment is all of a kind with ours. */
  readonly plugin: ForeignPlugin | undefined;
  /** @throws NetError io */
  remove(): void;
}

/** The file, if it is about this network: one container may have several, and only the last one has it. @throws NetError io */
export function flannelFile({ network, containerId }: Request, directory: string): FlannelFile | undefined {
  const path = join(directory, containerId);
  const input = readRegular(path, { maxBytes: MAX_INPUT_BYTES });
  const told = input === undefined ? undefined : decode(input);
  if (input === undefined || told?.name !== network) return undefined;
  return { plugin: pluginIn(told, input), remove: () => removeIfThere(path) };
}

function pluginIn(told: Readonly<Record<string, unknown>>, input: string): ForeignPlugin | undefined {
  const type = typeof told.type === 'string' ? told.type : BRIDGE;
  if (type !== BRIDGE) return { role: 'interface', plugin: type, input };
  const plugin = foreignIpam(told);
  return plugin === undefined ? undefined : { role: 'ipam', plugin, input };
}

/** Flannel writes it in place: it may be damaged, and then says nothing. */
function decode(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
