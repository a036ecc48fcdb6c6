// Starts the installed agent from what V8 made of it at the installation (compile.ts): compiling it at each start would
// take a third of the time until it is ready. Made by another Node.js or with other flags it is refused by V8, which
// then compiles as always.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Script } from 'node:vm';
import { compiledOf, type Program, scriptOf } from './files.ts';

const folder = import.meta.dirname;
const filename = scriptOf(folder);
program(filename, compiledOf(folder))(createRequire(filename), folder, pathToFileURL(filename).href);

function program(filename: string, compiled: string): Program {
  // The script is ASCII.
  const text = readFileSync(filename, 'latin1');
  if (!existsSync(compiled)) return new Script(text, { filename }).runInThisContext();
  const cachedData = readFileSync(compiled);
  const script = new Script(text, { filename, cachedData });
  // V8 has taken from it what it needs: several megabytes that otherwise stay for long. A damaged file may be so small that
  // Node.js has put it into a buffer of others.
  if (cachedData.buffer.byteLength === cachedData.byteLength) cachedData.buffer.transfer(0);
  return script.runInThisContext();
}
