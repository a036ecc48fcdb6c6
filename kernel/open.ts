// The real kernel behind the Kernel interface.

import { hasErrno, NetError } from '../model/errors.ts';
import type { Namespace } from '../model/state.ts';
import { createAnnouncer } from './announce.ts';
import { applySteps } from './apply.ts';
import { setTxChecksum } from './checksum.ts';
import { forgetFlows } from './conntrack.ts';
import { forgetterOfEnds } from './forget-ends.ts';
import { getRoute, readRouteTo } from './route.ts';
import type { Kernel } from './kernel.ts';
import { inNamespace, openNamespace, settleThreads } from './netns.ts';
import { type NetlinkSocket, openNetlink } from './netlink.ts';
import { watchKernel } from './notify.ts';
import { commitAside, nftables } from './nftables.ts';
import { unmarkFlows } from './flow-marks.ts';
import { getLink, indexIn, listLinks, nameIn } from './link.ts';
import { devicesOf, readInSlices, readState, unlessMissing } from './read.ts';
import { type LinkRevisions, openLinkRevisions, rulesGeneration } from './revisions.ts';
import { elementCommitter } from './set-elements.ts';
import { writeSysctl } from './sysctl.ts';

const NETLINK_NETFILTER = 12;

/** The first thing that takes privileges. @throws NetError not-permitted, kernel */
function openHostSocket(): NetlinkSocket {
  try {
    return openNetlink();
  } catch (error) {
    if (!hasErrno(error, 'EPERM')) throw error;
    throw new NetError('not-permitted', 'change the network of this host: EPERM', { errno: 'EPERM' });
  }
}

/** Opens the kernel of the namespace the process lives in. @throws NetError not-permitted, kernel, internal (stray threads) */
export function openKernel(): Kernel {
  settleThreads();
  const host = openNamespace('/proc/self/ns/net');
  const hostSocket = openHostSocket();
  const tables = nftables();
  let ruleSocket: NetlinkSocket | undefined;
  const ruleConversation = () => (ruleSocket ??= openNetlink(NETLINK_NETFILTER));
  const commit = elementCommitter(ruleConversation, tables.commit);
  let flowSocket: NetlinkSocket | undefined;
  let endSocket: NetlinkSocket | undefined;
  let revisions: LinkRevisions | undefined;
  const announcer = createAnnouncer(hostSocket);
  let forgetEnds: ReturnType<typeof forgetterOfEnds> | undefined;

  /** Runs the function in the namespace. The host's socket is kept; one in another lives as long as the function. */
  function inside<T>(namespace: Namespace, use: (socket: NetlinkSocket) => T): T {
    if (namespace.id === host.id) return use(hostSocket);
    return inNamespace(host, namespace, () => {
      const socket = openNetlink();
      try {
        return use(socket);
      } finally {
        socket.close();
      }
    });
  }

  return {
    host,
    openNamespace,
    read: (namespace, query) => inside(namespace, (socket) => readState(socket, query)),
    readInSlices: (query, former) => readInSlices(hostSocket, query, former),
    apply: (namespace, steps, known) =>
      inside(namespace, (socket) => {
        const devices = devicesOf(socket, known);
        return applySteps(steps, {
          socket,
          indexOf: (name) => devices.indexOf(name) ?? noDevice(name),
          forget: devices.forget,
          writeSysctl,
          setTxChecksum,
        });
      }),
    settleCarrier: (device) => void unlessMissing(() => hostSocket.get(getLink(device))),
    linkRevision(index) {
      revisions ??= openLinkRevisions();
      return revisions.of(index);
    },
    rulesGeneration() {
      return rulesGeneration(ruleConversation());
    },
    routeTo: (namespace, address) =>
      inside(namespace, (socket) => readRouteTo(socket.get(getRoute(address)), address, devicesOf(socket).nameOf)),
    readTable: tables.read,
    listChains: tables.listChains,
    readChain: tables.readChain,
    commit,
    commitAside,
    async unmarkFlows(mask, signal) {
      // A list that isn't read to its end leaves its socket useless.
      const listing = openNetlink(NETLINK_NETFILTER);
      const changing = openNetlink(NETLINK_NETFILTER);
      try {
        await unmarkFlows({ listing, changing }, mask, signal);
      } finally {
        listing.close();
        changing.close();
      }
    },
    forgetFlows(filter) {
      flowSocket ??= openNetlink(NETLINK_NETFILTER);
      forgetFlows(flowSocket, filter);
    },
    forgetEnds(ends) {
      endSocket ??= openNetlink(NETLINK_NETFILTER);
      forgetEnds ??= forgetterOfEnds(endSocket);
      return forgetEnds(ends);
    },
    announce: announcer.announce,
    watch: (onChange) => watchKernel(() => deviceNames(hostSocket), onChange),
    close() {
      tables.close();
      announcer.close();
      flowSocket?.close();
      endSocket?.close();
      ruleSocket?.close();
      revisions?.close();
      hostSocket.close();
      host.close();
    },
  };
}

const deviceNames = (socket: NetlinkSocket): Map<number, string> =>
  new Map(socket.dump(listLinks()).map((reply) => [indexIn(reply), nameIn(reply)]));

function noDevice(name: string): never {
  throw new NetError('kernel', `find device ${name}: ENODEV`, { errno: 'ENODEV', subject: name });
}
