// Builds dist/rolloutobs.js and dist/rolloutobs-full.js with their brotli twins, prints their sizes and fails when one is
// over its budget.

import {mkdir, writeFile} from 'node:fs/promises';
import {basename, resolve} from 'node:path';
import {brotliCompressSync, constants, gzipSync} from 'node:zlib';

import {build} from 'esbuild';
import {minify} from 'terser';

// The size users ask for, and less than a fifth of the smallest agent with the same signals; docs/rum.md compares them.
const BUILDS = [
  {output: 'dist/rolloutobs.js', full: false, budget: 4096},
  {output: 'dist/rolloutobs-full.js', full: true, budget: 5200},
];
const BANNER = '/*! rolloutobs | Apache-2.0 | contains web-vitals (c) Google LLC, Apache-2.0 */';
const VITALS = resolve('node_modules/web-vitals/dist/modules');

/** Bundles web-vitals from its modules, with those of src/lean in the place of the ones they are named after. */
const lean = {
  name: 'lean',
  setup(bundler) {
    const missing = new Set(['bindReporter.js', 'generateUniqueID.js']);
    bundler.onResolve({filter: /^web-vitals$/}, () => ({path: `${VITALS}/index.js`}));
    bundler.onResolve({filter: /\/(bindReporter|generateUniqueID)\.js$/}, ({path}) => {
      missing.delete(basename(path));
      return {path: resolve('src/lean', basename(path, '.js') + '.ts')};
    });
    bundler.onEnd(() => ({errors: [...missing].map((name) => ({text: `web-vitals has no ${name} any more`}))}));
  },
};

const bundle = async ({output, full, budget}) => {
  const bundled = await build({
    entryPoints: ['src/index.ts'],
    write: false,
    bundle: true,
    minify: true,
    format: 'iife',
    // What web-vitals 6 itself is written in.
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    define: {FULL: String(full)},
    mangleProps: /^_[a-z]/,
    plugins: [lean],
    banner: {js: BANNER},
  });
  // A second pass over what esbuild leaves saves 2 % of the bytes.
  const shortened = await minify(bundled.outputFiles[0].text, {
    ecma: 2022,
    // Reading a property does nothing else here: what is read and not used goes.
    compress: {passes: 3, sequences: false, unsafe_arrows: true, pure_getters: true},
    format: {comments: /^!/},
  });
  const code = Buffer.from(shortened.code);
  await writeFile(output, code);
  const brotli = brotliCompressSync(code, {
    params: {[constants.BROTLI_PARAM_SIZE_HINT]: code.length, [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT},
  });
  await writeFile(`${output}.br`, brotli);
  const gzip = gzipSync(code, {level: 9}).length;
  console.log(`${output}: ${code.length} bytes, gzip ${gzip}, brotli ${brotli.length} of ${budget}`);
  if (brotli.length > budget) {
    console.error(`${output} is ${brotli.length - budget} bytes over its budget of ${budget} (brotli)`);
    process.exitCode = 1;
  }
};

await mkdir('dist', {recursive: true});
for (const each of BUILDS) await bundle(each);
