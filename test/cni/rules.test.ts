// The rules by which the client, the agent and other programs share a host, and the tests that hold them to it. Each test
// is there under its title.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

interface Rule {
  readonly says: string;
  /** Titles by file; what is put into one is written "…". */
  readonly tests: Readonly<Record<string, readonly string[]>>;
}

const RULES: readonly Rule[] = [
  {
    says: 'an agent that is expected is waited for within its grace period, an ADD is never done alone meanwhile',
    tests: {
      'root/client-absence.test.ts': [
        'expected, and soon there',
        'expected, but not even its directory is there, as after a boot',
        'a grace period of 0',
        'STATUS while the agent is away',
      ],
      'root/client.test.ts': ['what tells a client that asks again from another one'],
      'root/client-spool.test.ts': ['DEL is kept whole, and succeeds at once', 'after the grace period too'],
      'root/cni-cleanup.test.ts': ['STATUS while the agent of a host without a pod network is replaced'],
      'root/cni-crash.test.ts': ['and does not come back', 'a restart while pods come and go: nobody notices'],
      'flanneld/cni/server.test.ts': ['a client that asks again gets its answer, another one the refusal'],
    },
  },
  {
    says: 'one verb at a time for an attachment, across processes; an ADD whose client has gone is taken back',
    tests: {
      'cni-plugin/attachments.test.ts': ['one at a time', 'a killed process holds no lock'],
      'cni-plugin/verbs.test.ts': ['verbs of one attachment wait for each other, others do not'],
      'flanneld/cni/queue.test.ts': ['those of one key in their order, others side by side'],
      'flanneld/cni/server.test.ts': ['an ADD whose client has gone is taken back'],
      'root/cni-crash.test.ts': ['what a client takes that is killed in the middle of ADD'],
    },
  },
  {
    says: 'record, reservation, kernel; DEL the other way: killed anywhere, the record says what to undo',
    tests: {
      'root/cni-kill-points.test.ts': ['the agent, …', 'the program, …'],
      'root/cni-crash.test.ts': ['at a random moment of … ADDs and DELs, … times'],
      'cni-plugin/verbs.test.ts': ['a failure at any step leaves nothing behind'],
      'cni-plugin/detach.test.ts': ['what was done is taken back, the last first, up to what can’t be'],
    },
  },
  {
    says: 'the boot id stands in the record, never in a reservation: a reboot voids both, so that nothing is synced',
    tests: {
      'cni-plugin/reclaim.test.ts': ['the dead go, with their reason'],
      'cni-plugin/verbs.test.ts': [
        'after a reboot',
        'an ADD without an address left leaves nothing, and a reboot frees addresses',
        'flannel-ipam reserves and frees addresses, and leaves the machine alone',
      ],
      'root/cni-kill-points.test.ts': ['the agent, …'],
      'root/ipam-host-local.test.ts': ['host-local and ours by turns'],
    },
  },
  {
    says: 'a reservation is a link to a whole file outside the network’s directory; an empty one is reclaimed under the lock',
    tests: {
      'root/ipam-host-local.test.ts': ['ours and host-local by turns'],
      'root/ipam-crash.test.ts': ['… processes, one of them killed at a random moment, … times'],
      'ipam/damage.test.ts': [
        'an empty file is freed when nothing else is left, but only under the lock of host-local',
        'DEL frees empty files when the lock is free, and does not wait for it',
      ],
    },
  },
  {
    says: 'an attachment is dead when its device is gone or the boot another, never because a path can’t be seen',
    tests: {
      'cni-plugin/reclaim.test.ts': [
        'never because a namespace can’t be seen, or is another host’s',
        'a device that was renamed is alive',
        'a damaged record: gone with its device, not before',
      ],
      'root/cni-server.test.ts': ['pods that end without a DEL'],
      'root/cni-repair.test.ts': ['what died or was lost is found, and named'],
    },
  },
  {
    says: 'memory is a cache: programs and agents write the same directories',
    tests: {
      'root/cni-repair.test.ts': ['the program and the agent work on the same state'],
      'root/cni-reference.test.ts': ['pods that Go attached: on the same bridge, deleted by ours'],
      'root/ipam-host-local.test.ts': [
        'both at the same time, … times: every address once, each frees what the other reserved',
      ],
    },
  },
  {
    says: 'the spool is emptied before the socket opens, spares what is younger, is closed to others, has an end',
    tests: {
      'root/client-spool.test.ts': [
        'nobody else can read it',
        'in the order of time, and all of them',
        'a full disk is a failed DEL that leaves nothing',
        'as many as it may hold',
        'as many bytes as it may hold',
      ],
      'root/cni-crash.test.ts': [
        'DELs are kept, and made up for before anyone is served',
        'a kept DEL spares what has been added since',
      ],
      'cni-plugin/detach.test.ts': ['an attachment that was made after a deletion was asked for is no business of it'],
      'flanneld/cni/spool.test.ts': ['what is no deletion is put aside, and said'],
    },
  },
  {
    says: 'the client executes the plugins of others; a path that the agent sees differently is refused by name',
    tests: {
      'root/client-plugins.test.ts': [
        'input, outputs, status and environment',
        'a plugin that is not there, or is none',
      ],
      'flanneld/cni/connection.test.ts': ['request, execution, result', 'one plugin at a time'],
      'root/cni-server.test.ts': ['with directories of its own'],
    },
  },
  {
    says: 'a namespace is what the client sees; the process enters it for a moment, no thread stays, or it aborts',
    tests: {
      'flanneld/cni/server.test.ts': [
        'the namespace is the one that the client sees',
        'a runtime in another network namespace',
      ],
      'root/cni-server.test.ts': ['that sees no new namespaces looks through the client’s eyes'],
      'root/cni-crash.test.ts': ['1,000 ADDs: no thread is in a pod’s namespace, and how long they take'],
      'root/netns.test.ts': ['the way back is gone', 'it comes back after an error, and no thread stays'],
    },
  },
  {
    says: 'the socket is root’s, in a directory of root’s; a second agent says that it is served, and goes on',
    tests: {
      'root/cni-server.test.ts': ['who may use the socket', 'where the socket may be', 'two agents on one host'],
      'flanneld/cni/server.test.ts': ['users other than root, and ours'],
    },
  },
];

const isTitle = (text: string, title: string): boolean =>
  ["'", '`'].some((quote) => text.includes(`t.test(${quote}${title}${quote}`));

t.test('every rule has tests', async (t) => {
  t.equal(RULES.length, 11);
  for (const [index, { says, tests }] of RULES.entries()) {
    t.ok(Object.values(tests).flat().length > 1, `${index + 1}: ${says}`);
    for (const [file, titles] of Object.entries(tests)) {
      const source = readFileSync(join(import.meta.dirname, '..', file), 'utf8');
      const text = source.replace(/\$\{[^}]*\}/g, '…');
      const missing = titles.filter((title) => !isTitle(text, title));
      t.strictSame(missing, [], `${index + 1}: ${file}`);
    }
  }
});
