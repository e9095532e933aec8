// Bundles each of agents/*.js into the folder given, minified, as a page would load it.

import {readdirSync} from 'node:fs';

import {build} from 'esbuild';

await build({
  entryPoints: readdirSync('agents').map((name) => `agents/${name}`),
  outdir: process.argv[2],
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2022',
  legalComments: 'none',
  logLevel: 'error',
});
