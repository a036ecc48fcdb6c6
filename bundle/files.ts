// The installed agent's files, beside each other in one folder: install.sh makes them.

import { join } from 'node:path';

/** The agent, a script whose value is a {@link Program}. */
export const scriptOf = (folder: string): string => join(folder, 'agent.js');

/** What V8 made of the script when it was installed. */
export const compiledOf = (folder: string): string => join(folder, 'agent.v8');

/** Runs the agent: `require` for the packages that lie outside of the script, its own folder, and its place as a URL. */
export type Program = (require: NodeJS.Require, folder: string, url: string) => void;
