// Opens pages of a dashboard in Chromium, in both colour schemes and widths, and prints what is wrong with them as JSON.
// node look.mjs <chromium> <address> <cookie name> <cookie> <page>…
import fs from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [program, address, name, value, ...pages] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({executablePath: program, args: ["--no-sandbox"]});
const found = [];
for (const colorScheme of ["light", "dark"]) for (const width of [1024, 390]) {
  const context = await browser.newContext({viewport: {width, height: 800}, colorScheme, timezoneId: "Asia/Kolkata"});
  await context.addCookies([{name, value, url: address}]);
  const page = await context.newPage();
  const where = path => `${path} ${colorScheme} ${width}`;
  let at = "";
  page.on("console", message => { if (message.type() === "error") found.push([where(at), "console", message.text()]); });
  page.on("pageerror", error => found.push([where(at), "script", error.message]));
  for (at of pages) {
    await page.goto(address + at, {waitUntil: "load"});
    const seen = await page.evaluate(() => ({
      over: document.documentElement.scrollWidth - innerWidth,
      undrawn: [...document.querySelectorAll("figure.chart")].filter(one => !one.querySelector("canvas")).length,
      utc: [...document.querySelectorAll("time:not([data-keep])")].filter(one => one.textContent.endsWith("UTC")).length,
    }));
    if (seen.over > 0) found.push([where(at), "wider than the window", seen.over]);
    if (seen.undrawn) found.push([where(at), "charts not drawn", seen.undrawn]);
    if (seen.utc) found.push([where(at), "times not in the reader's zone", seen.utc]);
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.className) !== "skip") found.push([where(at), "first stop is no skip link"]);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => !!document.activeElement.closest(".menu, .top"))) found.push([where(at), "the skip link does not skip"]);
    await page.evaluate(axe);
    const result = await page.evaluate(() => axe.run(document, {resultTypes: ["violations"]}));
    for (const one of result.violations) if (["serious", "critical"].includes(one.impact)) found.push([where(at), one.id, one.nodes[0].html.slice(0, 200)]);
  }
  await context.close();
}
await browser.close();
console.log(JSON.stringify(found));
