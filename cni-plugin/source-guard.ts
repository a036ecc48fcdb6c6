// Keeps the tables of what ports let in: an attachment's elements come with it and go after it; the whole is compared with
// all records whenever somebody may have changed it.

import { throwFirst, type Kernel } from '../kernel/kernel.ts';
import { hasErrno } from '../model/errors.ts';
import { diffTable, type NftCommand, type Table } from '../model/ruleset.ts';
import type { Step } from '../model/steps.ts';
import type { Attachment } from './attachments.ts';
import { guardDifferences, guardIfThere, unguard } from './guard.ts';
import { FILTERED, GUARD_FAMILIES, GUARD_TABLE, isFiltered, sourceOf, sourceTable } from './sources.ts';

export interface SourceGuard {
  /** From now on what comes in by the attachment's port must be from it. @throws NetError kernel */
  allow(record: Attachment): void;
  /** The attachment's port is gone. @throws NetError kernel */
  forget(record: Attachment): void;
  /** What is missing for the attachment, in words for CHECK. @throws NetError kernel */
  differences(record: Attachment): string[];
  /**
   * Brings the tables to what all attachments of the node need, in one transaction each, and makes their bridges, and others,
   * hand over what they forward. Gives in words what was amiss. @throws NetError kernel, io
   */
  sync(others?: readonly string[]): string[];
  /** Bridges that attachments hang on, and the others. */
  bridges(): readonly string[];
}

export interface SourceGuardDeps {
  readonly kernel: Kernel;
  readonly bootId: string;
  /** Records of all attachments of the node. @throws NetError io */
  readRecords(): readonly Attachment[];
}

export function createSourceGuard({ kernel, bootId, readRecords }: SourceGuardDeps): SourceGuard {
  let bridges: ReadonlySet<string> = new Set();
  let otherBridges: readonly string[] = [];

  /** Attachments whose port can be in this network namespace. */
  const present = (record: Attachment): boolean =>
    record.bootId === bootId && (record.host === undefined || record.host === kernel.host.id);

  const tablesOf = (record: Attachment): Table[] => {
    const source = sourceOf(record);
    return source === undefined ? [] : [sourceTable(source.family, [source])];
  };

  /** Reads before the records are: an element of which no record speaks then belongs to nobody. */
  function syncTables(): string[] {
    const before = GUARD_FAMILIES.map((family) => kernel.readTable(family, GUARD_TABLE));
    const records = readRecords().filter(present);
    bridges = new Set([...records.flatMap(({ bridge }) => bridge ?? []), ...otherBridges]);
    const sources = records.flatMap((record) => sourceOf(record) ?? []);
    return GUARD_FAMILIES.flatMap((family, at) => {
      const transaction = diffTable(before[at], sourceTable(family, sources), () => true);
      if (transaction === undefined) return [];
      kernel.commit(transaction);
      const name = `nft table ${family} ${GUARD_TABLE}`;
      return before[at] === undefined ? [name] : transaction.commands.map((command) => `${name}: ${inWords(command)}`);
    });
  }

  function syncBridges(): string[] {
    const { links } = kernel.read(kernel.host, { links: [...bridges] });
    const unfiltered = links.filter((link) => link.bridge !== undefined && !isFiltered(link.bridge));
    const steps = unfiltered.map(
      ({ name }): Step => ({
        verb: 'change',
        item: { type: 'link', value: { name, kind: 'bridge', bridge: FILTERED } },
      }),
    );
    throwFirst(kernel.apply(kernel.host, steps));
    return unfiltered.map(({ name }) => `nf_call_iptables and nf_call_ip6tables of ${name}`);
  }

  return {
    allow(record) {
      if (record.bridge !== undefined && !bridges.has(record.bridge)) bridges = new Set([...bridges, record.bridge]);
      // Not the port's elements alone: the others' would be missing.
      if (tablesOf(record).some((table) => !guardIfThere(kernel, table))) syncTables();
    },
    forget(record) {
      for (const table of tablesOf(record)) unguard(kernel, table);
    },
    differences: (record) => tablesOf(record).flatMap((table) => guardDifferences(kernel, table)),
    sync(others = []) {
      otherBridges = others;
      const amiss = retried(syncTables);
      return [...amiss, ...syncBridges()];
    },
    bridges: () => [...bridges],
  };
}

/** Somebody may have taken away what was just read. */
function retried<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return action();
    throw error;
  }
}

const inWords = (command: NftCommand): string =>
  command.type === 'element'
    ? `${command.verb} ${command.elements.join(', ')} in ${command.set.name}`
    : `${command.verb} ${command.type}`;
