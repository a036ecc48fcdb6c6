// Many processes that allocate from one directory.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type IpamConfig, parseIpam } from '../../ipam/verbs.ts';
import { IpamProcess } from './ipam-processes.ts';

export class IpamCrowd {
  readonly root = mkdtempSync(join(tmpdir(), 'ipam-crowd-'));
  /** The `ipam` section. */
  readonly ipam: { readonly dataDir: string; readonly ranges: unknown };
  readonly config: IpamConfig;
  /** Of the reservations. */
  readonly directory: string;
  readonly claims = join(this.root, 'claims');
  readonly #processes = new Set<IpamProcess>();
  #started = 0;

  constructor(ranges: unknown) {
    mkdirSync(this.claims);
    this.ipam = { dataDir: join(this.root, 'networks'), ranges };
    this.directory = join(this.ipam.dataDir, 'mynet');
    this.config = parseIpam({ network: 'mynet', cniVersion: '1.0.0', ipam: this.ipam, cniArgs: new Map() });
  }

  /** A process that is ready for commands, under a name that none had before. */
  async start(): Promise<IpamProcess> {
    const name = `p${this.#started++}`;
    const setup = { name, config: this.config, progress: join(this.root, name), claims: this.claims };
    const started = new IpamProcess(setup, join(this.root, 'compile-cache'));
    this.#processes.add(started);
    await started.answer();
    return started;
  }

  async startMany(count: number): Promise<IpamProcess[]> {
    // The first fills the compile cache for the rest.
    const first = await this.start();
    return [first, ...(await Promise.all(Array.from({ length: count - 1 }, () => this.start())))];
  }

  /** Ends what still runs and removes the files. */
  async close(): Promise<void> {
    await Promise.all([...this.#processes].map((each) => each.end()));
    rmSync(this.root, { recursive: true, force: true });
  }
}
