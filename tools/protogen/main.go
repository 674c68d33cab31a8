// Command protogen generates the Go code of Concordat's protocol definitions.
//
// It compiles every .proto file below -dir in this process and hands the result
// to protoc-gen-go and protoc-gen-go-grpc, which are pinned as tools in this
// module's go.mod. So neither protoc nor anything on the PATH but the go
// command decides what comes out. Run it in this module's directory:
//
//	go -C tools run ./protogen          # write the generated files
//	go -C tools run ./protogen -check   # compare them, name those that are stale
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugins are run in this order; their outputs are disjoint.
var plugins = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

const generatedSuffix = ".pb.go"

func main() {
	dir := flag.String("dir", "../proto", "directory that holds the .proto files, and the import path's root")
	check := flag.Bool("check", false, "write nothing; exit with 1 if a checked-in file is not what would be written")
	flag.Parse()
	if err := run(context.Background(), *dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, check bool) error {
	sources, err := find(dir, ".proto")
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return fmt.Errorf("no .proto file below %s; say where they are with -dir", dir)
	}
	request, err := compile(ctx, dir, sources)
	if err != nil {
		return err
	}
	want := make(map[string]string)
	for _, plugin := range plugins {
		if err := generate(ctx, plugin, request, want); err != nil {
			return err
		}
	}
	have, err := find(dir, generatedSuffix)
	if err != nil {
		return err
	}
	orphans := slices.DeleteFunc(have, func(name string) bool { _, ok := want[name]; return ok })
	if check {
		return compare(dir, want, orphans)
	}
	return write(dir, want, orphans)
}

// find lists the files below dir whose names end in suffix, as slash-separated
// paths relative to dir, sorted.
func find(dir, suffix string) ([]string, error) {
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// compile makes the request that protoc would send to a plugin.
func compile(ctx context.Context, dir string, sources []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, sources...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: sources,
		Parameter:      new("paths=source_relative"),
	}
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) { // a plugin wants imports before importers
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		request.ProtoFile = append(request.ProtoFile, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range files {
		add(file)
	}
	return request, nil
}

// generate runs one plugin and adds the files it makes to out, by name.
func generate(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest, out map[string]string) error {
	in, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	stdout, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go tool %s: %w; run protogen in the directory of the tools module", plugin, err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(stdout, &response); err != nil {
		return fmt.Errorf("%s: answer: %w", plugin, err)
	}
	if response.Error != nil {
		return fmt.Errorf("%s: %s", plugin, response.GetError())
	}
	for _, file := range response.GetFile() {
		out[file.GetName()] = file.GetContent()
	}
	return nil
}

// compare reports every file that write would change.
func compare(dir string, want map[string]string, orphans []string) error {
	const remedy = "run: make generate"
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		have, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("%s is missing; %s", name, remedy))
		case err != nil:
			errs = append(errs, err)
		case string(have) != want[name]:
			errs = append(errs, fmt.Errorf("%s is stale; %s", name, remedy))
		}
	}
	for _, name := range orphans {
		errs = append(errs, fmt.Errorf("%s has no .proto file any more; %s", name, remedy))
	}
	return errors.Join(errs...)
}

// write makes the files below dir what they should be.
func write(dir string, want map[string]string, orphans []string) error {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(want[name]), 0o644); err != nil {
			return err
		}
	}
	for _, name := range orphans {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
