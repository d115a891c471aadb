// Command image writes an OCI archive with one layer, which is one program, under several names:
//
//	image PROGRAM ARCHIVE NAME=ARGUMENT...
//
// Each image runs the program with its argument. Images differ in their configuration (VERSION is the tag of the
// name), so that each has a digest of its own, as versions of a real program do.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
)

const (
	layerType    = "application/vnd.oci.image.layer.v1.tar"
	configType   = "application/vnd.oci.image.config.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

type object = map[string]any

// archive is a folder of blobs in the making, each under its digest.
type archive struct {
	file *tar.Writer
}

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: image PROGRAM ARCHIVE NAME=ARGUMENT...")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func write(program, path string, images []string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var layer bytes.Buffer
	files := tar.NewWriter(&layer)
	if err := add(files, "app", content, 0o755); err != nil {
		return err
	}
	if err := files.Close(); err != nil {
		return err
	}
	output, err := os.Create(path)
	if err != nil {
		return err
	}
	defer output.Close()
	archive := archive{tar.NewWriter(output)}
	layerBlob, err := archive.blob(layerType, layer.Bytes())
	if err != nil {
		return err
	}
	manifests := []object{}
	for _, image := range images {
		manifest, err := archive.image(image, layerBlob)
		if err != nil {
			return err
		}
		manifests = append(manifests, manifest)
	}
	index, err := json.Marshal(object{"schemaVersion": 2, "mediaType": indexType, "manifests": manifests})
	if err != nil {
		return err
	}
	if err := add(archive.file, "index.json", index, 0o644); err != nil {
		return err
	}
	if err := add(archive.file, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	return archive.file.Close()
}

// image adds the configuration and the manifest of one NAME=ARGUMENT.
func (archive *archive) image(image string, layer object) (object, error) {
	name, argument, found := strings.Cut(image, "=")
	if !found {
		return nil, fmt.Errorf("%q is not NAME=ARGUMENT", image)
	}
	version := name[strings.LastIndex(name, ":")+1:]
	config, err := archive.json(configType, object{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": object{
			"Entrypoint": []string{"/app"},
			"Cmd":        []string{argument},
			"Env":        []string{"VERSION=" + version},
		},
		"rootfs": object{"type": "layers", "diff_ids": []any{layer["digest"]}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := archive.json(manifestType, object{
		"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": []object{layer},
	})
	if err != nil {
		return nil, err
	}
	manifest["annotations"] = object{"io.containerd.image.name": name}
	return manifest, nil
}

func (archive *archive) json(mediaType string, value object) (object, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return archive.blob(mediaType, content)
}

// blob adds a blob and says how others refer to it.
func (archive *archive) blob(mediaType string, content []byte) (object, error) {
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	err := add(archive.file, "blobs/sha256/"+digest, content, 0o644)
	return object{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(content)}, err
}

func add(archive *tar.Writer, name string, content []byte, mode int64) error {
	header := tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}
