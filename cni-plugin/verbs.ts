// The verbs of each plugin, as functions of a request and of what they act on. The executable calls them when it works
// alone, the resident agent for every client; nothing here belongs to a process.

import type { Kernel } from '../kernel/kernel.ts';
import { NetError } from '../model/errors.ts';
import { add } from './add.ts';
import { addAddresses, checkAddresses, delAddresses } from './address-verbs.ts';
import { type Answer, failure, success } from './answer.ts';
import type { OwnLink } from './attach.ts';
import type { Attachment, PluginName } from './attachments.ts';
import { addLimits, checkLimits, delLimits, limitStatus } from './bandwidth-verbs.ts';
import { check } from './check.ts';
import { del } from './del.ts';
import { addDelegate, checkDelegate, delegateStatus } from './delegate.ts';
import { executeWithin } from './delegation.ts';
import { foreignDelegate } from './form.ts';
import { gc, gcRecords } from './gc.ts';
import { addPorts, checkPorts, delPorts, portStatus } from './portmap-verbs.ts';
import type { Command, Request } from './protocol.ts';
import type { SourceGuard } from './source-guard.ts';
import { addressStatus, status } from './status.ts';
import type { Ending, Variables } from './wire.ts';

export interface Dependencies {
  readonly kernel: Kernel;
  /** /proc/sys/kernel/random/boot_id. */
  readonly bootId: string;
  /** Milliseconds since 1970. */
  now(): number;
  /** How long a verb waits for another one on the same attachment, in milliseconds. */
  readonly lockTimeoutMs: number;
  /**
   * Executes another plugin of the runtime's CNI_PATH: with our environment but for these changes, and this standard
   * input. One that can't be started answers like one that failed. @throws NetError io when the runtime has gone
   */
  execute(plugin: string, changes: Variables, input: string): Promise<Ending>;
  /** Deletes a device of the host if it is the one described: whether it was. @throws NetError kernel */
  removeLink(link: OwnLink): Promise<boolean>;
  /**
   * Resolves when traffic of the attachment, whose record is written and whose addresses aren't in use yet, is judged by the
   * policies in force. Undefined: there are none. @throws NetError try-later
   */
  admit?(attachment: Attachment): Promise<void>;
  /** Lets in by an attachment's port only what comes from its addresses. Undefined: nobody looks. */
  readonly sources?: SourceGuard;
  /** Of a request that could not be served when it was made: it is no business of attachments made since. */
  readonly asked?: { readonly bootId: string; readonly at: number } | undefined;
  /** Tells a client that asks again, since it had no answer, from another one. */
  readonly call?: string | undefined;
}

type Verb = (request: Request, dependencies: Dependencies) => Promise<unknown>;

/** The verb for an interface of ours, or for one that another plugin makes. */
function byForm(own: Verb, delegated: Verb): Verb {
  return (request, dependencies) =>
    foreignDelegate(request) === undefined ? own(request, dependencies) : delegated(request, dependencies);
}

const VERBS: Readonly<Record<PluginName, Partial<Record<Command, Verb>>>> = {
  flannel: {
    ADD: byForm(add, addDelegate),
    DEL: del,
    CHECK: byForm(check, checkDelegate),
    GC: gc,
    STATUS: byForm(status, delegateStatus),
  },
  'flannel-ipam': { ADD: addAddresses, DEL: delAddresses, CHECK: checkAddresses, GC: gc, STATUS: addressStatus },
  'flannel-portmap': { ADD: addPorts, DEL: delPorts, CHECK: checkPorts, GC: gcRecords, STATUS: portStatus },
  'flannel-bandwidth': { ADD: addLimits, DEL: delLimits, CHECK: checkLimits, GC: gcRecords, STATUS: limitStatus },
};

/** Whether the executable is called by this name. */
export const isPlugin = (name: string): name is PluginName => Object.hasOwn(VERBS, name);

/** Does what the request asks for. Every failure becomes an answer; nothing is thrown. */
export async function perform(plugin: PluginName, request: Request, dependencies: Dependencies): Promise<Answer> {
  try {
    const verb = VERBS[plugin][request.command];
    if (verb === undefined) throw new NetError('invalid-environment', `unknown CNI_COMMAND: ${request.command}`);
    const execute = executeWithin(dependencies.execute, request.depth);
    return success(await verb(request, { ...dependencies, execute }));
  } catch (error) {
    return failure(error, request.cniVersion);
  }
}
