// Packs extension.js and what it requires into dist/extension.js, and the licences of these packages beside it.

import { build } from "esbuild";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";

const { metafile } = await build({
  entryPoints: ["extension.js"],
  outfile: "dist/extension.js",
  bundle: true,
  minify: true,
  platform: "node",
  target: "node18", // of VS Code 1.82
  external: ["vscode"], // which the editor supplies
  metafile: true,
});

const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const name = input.match(/.*node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (name) packages.add(name[0]);
}
const notices = [...packages].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}package.json`, "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  if (!file || !existsSync(folder + file)) throw new Error(`${name} has no licence file`);
  return `${name} ${version} (${license})\n\n${readFileSync(folder + file, "utf8").trim()}\n`;
});
writeFileSync("dist/NOTICES.txt", notices.join(`\n${"-".repeat(80)}\n\n`));
