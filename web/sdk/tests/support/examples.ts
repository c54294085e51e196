/** The examples of a document, as programs: they are compiled and run. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Examples {
  /** Paths of the programs, in the order of the document. */
  files: string[];
  compile(): void;
  remove(): void;
}

/** Writes the fenced blocks of a language into files of `dir`, with `globals` (declarations) around them. */
export function examples(readme: string, language: "ts" | "tsx", dir: string, globals: string, change: (code: string) => string): Examples {
  const text = readFileSync(readme, "utf8");
  const blocks = [...text.matchAll(new RegExp("^```" + language + "\\n([\\s\\S]*?)^```$", "gm"))].map((m) => change(m[1] as string));
  mkdirSync(dir, { recursive: true });
  const files = blocks.map((code, i) => {
    const path = join(dir, `example${i}.${language}`);
    writeFileSync(path, `${code}\nexport {};\n`);
    return path;
  });
  writeFileSync(join(dir, "globals.d.ts"), globals);
  writeFileSync(join(dir, "tsconfig.json"), JSON.stringify({ extends: "../../tsconfig.json", include: ["*"] }));
  return {
    files,
    compile() {
      try {
        execFileSync(join(import.meta.dirname, "../../../node_modules/.bin/tsc"), ["--noEmit", "-p", dir], { encoding: "utf8" });
      } catch (e) {
        throw new Error((e as { stdout: string }).stdout);
      }
    },
    remove: () => rmSync(dir, { recursive: true }),
  };
}
