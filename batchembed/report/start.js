// Begin, and draw again when the width or the colours change.

startMap();
startHeat();
redraw();
dark.addEventListener("change", redraw);
let width = innerWidth, waiting = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's address bar changes the height alone
  width = innerWidth;
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(redraw);
});
