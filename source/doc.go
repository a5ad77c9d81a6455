// Package source is about what is watched: the [Watch], its state and the
// [Supervisor] that keeps each running.
//
// A source (a package below this one) makes a [Runner] of a watch. The runner
// reads until something goes wrong, publishes what it finds together with a
// checkpoint, and says through its [Report] when all is well. The supervisor
// starts it again after a failure, at growing intervals with full jitter; it
// parks it where trying again cannot help (bad credentials), until the next
// start or change. A watch on demand runs only while somebody follows its topic,
// and a minute more. The first failure and the recovery are events on the
// watch's own topic: watch.failed and watch.recovered.
package source
